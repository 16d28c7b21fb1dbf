"""UDP as asyncio's transports and as streams.

udp_transport  one UDP socket as an `asyncio.DatagramTransport`
udp_socket     UDP sockets in the stream-style interface
open_udp       opens them
"""
