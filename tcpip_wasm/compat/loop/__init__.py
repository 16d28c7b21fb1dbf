"""The event loop's network methods over a stack, for asyncio programs.

polyfill          the loop's methods, replaced for a block of code
runner            `run`, which is `asyncio.run` with a stack's network
caller_sockets    real sockets that represent a connection of the stack, for `sock_connect` and `sock_sendall`
caller_datagrams  real sockets that represent a UDP socket of the stack
caller_listeners  real sockets that represent a bound address or a listener of the stack
bound_datagrams   UDP sockets that the program binds itself and sets options on
loop_sockets      the loop's methods for listening sockets
direct_calls      socket calls that a program makes itself, bypassing the loop
guard             refuses the machine's network in strict blocks
replacements      attributes of classes and modules that are replaced for a time
"""
