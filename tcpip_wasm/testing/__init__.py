"""The insides of the pytest plugin, loaded by a test that uses it. The plugin itself is the module `pytest_tcpip_wasm`.

    virtual_test  runs a coroutine test and its fixtures in virtual time
    leak_check    a stack on the loop of another plugin, with a check for leaks
    leaks         fails a test that leaks tasks, sockets or stacks, or warns of it
    report        the section of a failure's report
    captures      the folder with captures of failures, of bounded size

Only this package imports pytest. It has no public names: tests use fixtures, options and a marker.

The reasons are in docs/explanation/tests.md.
"""
