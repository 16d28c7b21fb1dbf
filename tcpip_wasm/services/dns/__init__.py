"""DNS (RFC 1034, RFC 1035): names for the hosts of a network.

    wire     queries and answers as bytes
    records  records as callers write them; it needs dnspython
    zone     which name has which records
    forward  other servers, and a cache of their answers
    server   `DnsServer`

Messages are read by `wire` alone; only `records` imports dnspython, when a server is made.
"""

from tcpip_wasm.services.dns.server import DnsServer, DnsStatistics

__all__ = ["DnsServer", "DnsStatistics"]
