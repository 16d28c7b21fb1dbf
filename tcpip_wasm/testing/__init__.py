"""What the pytest plugin does once a test uses it. The plugin itself is the module `pytest_tcpip_wasm`.

    staged     a coroutine test and its fixtures, in virtual time
    watched    a stack on the loop of another plugin
    outcome    what becomes of a test that has left something open
    report     what a failure says of itself
    captures   the folder with captures of failures

Only this package imports pytest. It has no public names: what a test uses are fixtures, options and a marker.

The reasons are in docs/explanation/tests.md.
"""
