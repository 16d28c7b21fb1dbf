"""SNTP (RFC 4330): the time for the hosts of a network.

    wire    requests and answers
    server  `SntpServer`

The clock is the event loop's.
"""

from tcpip_wasm.services.sntp.server import SntpServer, SntpStatistics

__all__ = ["SntpServer", "SntpStatistics"]
