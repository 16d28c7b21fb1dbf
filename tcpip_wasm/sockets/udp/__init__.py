"""UDP as asyncio's transports and as streams.

udp_transport  one UDP socket as an `asyncio.DatagramTransport`
udp_socket     UDP sockets in the stream-style interface
udp_handle     what both have in common: a handle of the core, a queue bounded in bytes
open_udp       opens them
"""
