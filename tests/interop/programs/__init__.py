"""Unmodified programs over a stack, and their unmodified servers in a namespace of the kernel, over TAP."""
