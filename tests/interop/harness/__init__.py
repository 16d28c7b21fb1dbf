"""Real peers for the stack: the host's own kernel in a network namespace, and a user-mode Linux guest.

One module a noun. Nothing here imports the stack, so each peer can be tried, and proved, without it; what
joins a peer to a stack is the package's own `tcpip_wasm.links`.
"""
