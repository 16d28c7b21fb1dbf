"""Tests of the engine: no event loop, time handed in."""
