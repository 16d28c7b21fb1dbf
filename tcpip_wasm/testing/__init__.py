"""Helpers for tests of links and ports, and the implementation of the pytest plugin.

    memory_interface  `MemoryInterface` and `check_port`, the public names

The rest is loaded by a test that uses the plugin, which is the module `pytest_tcpip_wasm`:

    virtual_test  runs a coroutine test and its fixtures in virtual time
    leak_check    a stack on the loop of another plugin, with a check for leaks
    leaks         fails a test that leaks tasks, sockets or stacks, or warns of it
    report        the section of a failure's report
    captures      the folder with captures of failures, of bounded size

Only these modules import pytest, and they have no public names: tests use fixtures, options and markers.

The reasons are in docs/explanation/tests.md.
"""

from tcpip_wasm.testing.memory_interface import MemoryInterface, check_port, pack_records

__all__ = ["MemoryInterface", "check_port", "pack_records"]
