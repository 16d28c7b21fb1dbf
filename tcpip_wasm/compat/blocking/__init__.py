"""The standard `socket` module's names over a stack, for programs that block.

    thread          `StackThread`: stacks in a thread of their own
    patch           replaces the module's names for a block of code
    active_host     the virtual host whose network new sockets use
    sockets         the socket class; transfers, datagrams, options, tls_sockets and call_arguments are parts of it
    socket_pair     the pair of local sockets between such a socket and the stack
    relay           carries bytes between the pair and a connection of the stack
    listen_relay    the same for a listening socket
    numeric         converts the addresses that programs pass to sockets to numeric ones
    adapter_list    the stack's interfaces in the form of the ``ifaddr`` package
    trio_sockets    Trio's sockets, which keep the methods that `socket.socket` had when trio was imported

Its public module is `tcpip_wasm.compat.socket`.
"""
