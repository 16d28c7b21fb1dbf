"""DHCPv6 (RFC 8415): addresses and settings for the hosts of a link by IPv6.

    wire    requests and replies as bytes
    relay   what relays put around them
    table   leases
    links   the links that are served, each with its table
    server  `Dhcp6Server`

Prefixes are not delegated.
"""

from tcpip_wasm.services.dhcp6.links import Dhcp6Pool
from tcpip_wasm.services.dhcp6.server import Dhcp6Server, Dhcp6Statistics
from tcpip_wasm.services.dhcp6.table import Dhcp6Lease

__all__ = ["Dhcp6Lease", "Dhcp6Pool", "Dhcp6Server", "Dhcp6Statistics"]
