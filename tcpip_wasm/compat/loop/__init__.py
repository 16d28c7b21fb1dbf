"""The event loop's network methods over a stack, for asyncio programs.

polyfill          the loop's methods, replaced for a block of code
runner            `run`, which is `asyncio.run` with a stack's network
caller_sockets    real sockets that represent a connection of the stack, for `sock_connect` and its kin
caller_datagrams  the same for UDP
caller_listeners  the same for sockets that are bound or listen
bound_datagrams   UDP sockets that the program binds itself and gives options
loop_sockets      the loop's methods for these
direct_calls      calls of programs on sockets that bypass the loop
guard             refuses the machine's network in strict blocks
replacements      attributes of classes and modules that are replaced for a time
"""
