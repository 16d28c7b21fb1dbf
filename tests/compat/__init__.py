"""Existing programs and libraries over virtual stacks."""
