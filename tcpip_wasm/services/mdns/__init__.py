"""Multicast DNS and service discovery (RFC 6762, RFC 6763): names and services without a server.

    wire       messages
    records    services and hosts as records
    cache      what other hosts have announced
    node       sockets on the links, names looked up
    names      what a responder announces
    responder  `MdnsResponder`
    browser    `MdnsBrowser`

It needs no library.
"""

from tcpip_wasm.services.mdns.browser import MdnsBrowser, MdnsEvent, MdnsInstance
from tcpip_wasm.services.mdns.node import MdnsStatistics
from tcpip_wasm.services.mdns.records import MdnsService
from tcpip_wasm.services.mdns.responder import MdnsResponder

__all__ = ["MdnsBrowser", "MdnsEvent", "MdnsInstance", "MdnsResponder", "MdnsService", "MdnsStatistics"]
