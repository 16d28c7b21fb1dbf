"""The insides of the pytest plugin, loaded by a test that uses it. The plugin itself is the module `pytest_tcpip_wasm`.

    virtual_test  a coroutine test and its fixtures, in virtual time
    leak_check    a stack on the loop of another plugin
    left_open     fails, or warns of, a test that has left something open
    report        sections of a failure's report
    captures      the folder with captures of failures

Only this package imports pytest. It has no public names: tests use fixtures, options and a marker.

The reasons are in docs/explanation/tests.md.
"""
