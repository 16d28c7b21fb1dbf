"""DHCPv6 (RFC 8415): addresses and settings for the hosts of a link by IPv6.

    wire    requests and replies as bytes
    table   leases
    server  `Dhcp6Server`

Relays and prefixes are not served.
"""

from tcpip_wasm.services.dhcp6.server import Dhcp6Server, Dhcp6Statistics
from tcpip_wasm.services.dhcp6.table import Dhcp6Lease

__all__ = ["Dhcp6Lease", "Dhcp6Server", "Dhcp6Statistics"]
