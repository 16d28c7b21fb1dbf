"""DHCP (RFC 2131, RFC 2132): addresses for the hosts of a link.

    wire        requests and replies as bytes
    settings    the arguments of the server, checked
    table       leases, offers and free addresses
    lease_file  leases in a file
    probe       whether another host has an address
    waiting     clients that asked in vain
    replies     the content of replies
    reports     events and counters
    server      `DhcpServer`

Messages are read by `wire` alone; `table` knows no sockets, and what time it is by its arguments.
"""

from tcpip_wasm.services.dhcp.reports import DhcpEvent, DhcpStatistics
from tcpip_wasm.services.dhcp.server import DhcpServer
from tcpip_wasm.services.dhcp.settings import DhcpPool
from tcpip_wasm.services.dhcp.table import DhcpLease
from tcpip_wasm.services.dhcp.wire import Request as DhcpRequest

__all__ = ["DhcpEvent", "DhcpLease", "DhcpPool", "DhcpRequest", "DhcpServer", "DhcpStatistics"]
