"""Tests of the services over a stack."""
