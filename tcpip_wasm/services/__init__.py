"""Services over a stack, for the hosts that reach it: what a guest needs of its network.

    service    what all have in common: start, end, tasks
    events     what a service reports while it runs
    datagrams  UDP sockets for services
    leasing    what the servers of DHCP and DHCPv6 have in common
    rate       a rate limit for each client
    dhcp       addresses: `DhcpServer`
    dhcp6      addresses by IPv6: `Dhcp6Server`
    folder     a folder of files, and nothing outside of it
    dns        names: `DnsServer`
    http       applications and files: `HttpServer`, `http_client`
    tftp       files for hosts that boot: `TftpServer`
    sntp       the time: `SntpServer`
    mdns       names and services without a server: `MdnsResponder`, `MdnsBrowser`

Each serves one stack, is an asynchronous context manager, is also closed by `await x.aclose()`, and ends with its
stack. None is a method of the stack, which knows nothing of them.
"""

from tcpip_wasm.services.dhcp import DhcpEvent, DhcpLease, DhcpPool, DhcpRequest, DhcpServer, DhcpStatistics
from tcpip_wasm.services.dhcp6 import Dhcp6Lease, Dhcp6Pool, Dhcp6Server, Dhcp6Statistics
from tcpip_wasm.services.dns import DnsServer, DnsStatistics
from tcpip_wasm.services.http import HttpServer, http_client
from tcpip_wasm.services.mdns import (
    MdnsBrowser,
    MdnsEvent,
    MdnsInstance,
    MdnsResponder,
    MdnsService,
    MdnsStatistics,
)
from tcpip_wasm.services.sntp import SntpServer, SntpStatistics
from tcpip_wasm.services.tftp import TftpServer, TftpStatistics

__all__ = [
    "Dhcp6Lease",
    "Dhcp6Pool",
    "Dhcp6Server",
    "Dhcp6Statistics",
    "DhcpEvent",
    "DhcpLease",
    "DhcpPool",
    "DhcpRequest",
    "DhcpServer",
    "DhcpStatistics",
    "DnsServer",
    "DnsStatistics",
    "HttpServer",
    "MdnsBrowser",
    "MdnsEvent",
    "MdnsInstance",
    "MdnsResponder",
    "MdnsService",
    "MdnsStatistics",
    "SntpServer",
    "SntpStatistics",
    "TftpServer",
    "TftpStatistics",
    "http_client",
]
