"""Host names: whatever takes an address takes a name as well.

    hostname           which text is a name, and its comparable form
    hosts              the hosts table
    cache              answers, for as long as they are valid
    prng               transaction identifiers and ports that cannot be predicted
    wire               DNS messages; the only module that needs dnspython, imported at its first use
    transaction        one query to one server
    query              one query to its end, over several servers and CNAMEs
    servers            the servers of a resolver
    resolver           search list, cache, queries in progress
    address_selection  the order of addresses
    answer             how a query ended
    statistics         the counters of a resolver
    lookup             hosts table and resolver together, `getaddrinfo` and `getnameinfo`

It knows no stack: sockets, clock and seed are arguments.

The reasons are in docs/explanation/names.md.
"""

from tcpip_wasm.names.hosts import HostsTable
from tcpip_wasm.names.resolver import Resolver
from tcpip_wasm.names.statistics import ResolverStatistics

__all__ = ["HostsTable", "Resolver", "ResolverStatistics"]
