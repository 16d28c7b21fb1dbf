"""Names: what may stand wherever an address may.

    text            what is a name, and its comparable form
    hosts           the hosts table
    cache           answers while they last
    unpredictable   ids and ports that nobody can guess
    wire            DNS messages; the only module that needs dnspython, imported when it is needed first
    exchange        one question to one server
    question        one question to its end, whatever servers and CNAMEs it takes
    resolver        servers, search list, what is remembered, questions under way
    order           which address first
    outcome         how a question ended
    statistics      what a resolver counts
    lookup          hosts table and resolver together, `getaddrinfo` and `getnameinfo`

It knows no stack: sockets, clock and seed are handed in.

The reasons are in docs/explanation/names.md.
"""

from tcpip_wasm.names.hosts import HostsTable
from tcpip_wasm.names.resolver import Resolver
from tcpip_wasm.names.statistics import ResolverStatistics

__all__ = ["HostsTable", "Resolver", "ResolverStatistics"]
