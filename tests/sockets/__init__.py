"""Tests of TCP sockets, on real stacks."""
