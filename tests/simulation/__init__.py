"""Tests of links and what they carry, in virtual time."""
