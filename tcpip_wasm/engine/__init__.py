"""The engine: one instance of ``lwip.wasm``, driven from Python, without I/O.

    port       what is needed of a WebAssembly engine
    wasmtime_engine   the port for wasmtime: the compiled module and its cache, calls, linear memory
    instance   one instance: calls, memory, end
    autoconfiguration, configuration_messages   how interfaces find their addresses: the verbs, and what is said
    core       the sans-I/O core: frames in, frames out, socket calls, events, deadlines; `now` comes from the caller
    udp        UDP sockets of a core
    ping       ping sessions of a core
    bridges    bridges of a core
    routes     its routing table
    frame_buffers   those through which frames enter and leave an interface
    observed   buffers that tell what passes
    failures   error codes as exceptions
    abi        generated: what crosses the boundary

Only `wasmtime_engine` imports a WebAssembly engine, and this package imports neither asyncio nor a clock.

The reasons are in docs/explanation/boundary.md.
"""

from tcpip_wasm.engine.autoconfiguration import INFINITE, AddressReport, LeaseReport, decode_address, decode_lease
from tcpip_wasm.engine.configuration_messages import (
    Advertisement,
    build_advertisement,
    dhcp_domain,
    dhcp_name_servers,
    dhcp_options,
    dhcp_search,
    parse_advertisement,
)
from tcpip_wasm.engine.core import Address, Core, Event, Statistics, decode_endpoint, seed_bytes
from tcpip_wasm.engine.failures import error_for
from tcpip_wasm.engine.frame_buffers import FrameBuffers, record_size, split_records
from tcpip_wasm.engine.observed import observe, unobserve
from tcpip_wasm.engine.ping import ECHO_DATA, PingCalls
from tcpip_wasm.engine.udp import DATAGRAM_DATA, UdpCalls, encode_endpoint

__all__ = [
    "DATAGRAM_DATA",
    "ECHO_DATA",
    "INFINITE",
    "Address",
    "AddressReport",
    "Advertisement",
    "Core",
    "Event",
    "FrameBuffers",
    "LeaseReport",
    "PingCalls",
    "Statistics",
    "UdpCalls",
    "build_advertisement",
    "decode_address",
    "decode_endpoint",
    "decode_lease",
    "dhcp_domain",
    "dhcp_name_servers",
    "dhcp_options",
    "dhcp_search",
    "encode_endpoint",
    "error_for",
    "observe",
    "parse_advertisement",
    "record_size",
    "seed_bytes",
    "split_records",
    "unobserve",
]
