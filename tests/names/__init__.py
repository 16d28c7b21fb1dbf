"""Tests of names: hosts table, resolver, lookups, and connecting to a name with several addresses."""
