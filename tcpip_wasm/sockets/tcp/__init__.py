"""TCP as asyncio's transports and as streams.

transport        one TCP connection as an `asyncio.Transport`
weak_handler     events of a transport that only a paused program may still use
connect          one transport to a name's addresses
open_tcp         opens connections and listeners, with TLS or without
server           a listener that gives each connection a transport
connection       connections and listeners in the stream-style interface
stream_reader    the reader of `open_connection`, which does not copy
stream_handlers  handlers of `start_server` that a closing stack ends
draining         what a closing stack waits for, and how it ends its connections
sendfile         a file over a transport
"""
