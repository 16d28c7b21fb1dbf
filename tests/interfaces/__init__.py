"""Tests of interfaces, cables and frame streams, on real stacks."""
