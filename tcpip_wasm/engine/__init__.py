"""The engine: one instance of ``lwip.wasm``, driven from Python, without I/O.

    abi               generated: calls, numbers and layouts at the boundary
    port              what is needed of a WebAssembly engine
    binary            the module as bytes
    wasmtime_engine   the port for wasmtime: the compiled module and its cache, calls, linear memory
    javascript_engine the port for the engine of a JavaScript host, under Pyodide
    instance          one instance: calls, memory, end
    calls             calls by name, with their errors as exceptions
    core              the sans-I/O core: frames in, frames out, socket calls, events, deadlines; `now` is an argument
    udp_calls         UDP sockets of a core
    ping_calls        ping sessions of a core
    bridge_calls      bridges of a core
    route_calls       its routing table
    autoconfiguration_calls   how interfaces find their addresses
    configuration_messages    log messages about these
    records           the buffers through which frames enter and leave an interface
    observed_records  the same with an observer, for captures
    error_codes       error codes as exceptions

Only `wasmtime_engine` and `javascript_engine` import a WebAssembly engine, and this package imports neither asyncio nor
a clock.

The reasons are in docs/explanation/boundary.md.
"""

from tcpip_wasm.engine.autoconfiguration_calls import INFINITE, AddressReport, LeaseReport, decode_address, decode_lease
from tcpip_wasm.engine.configuration_messages import (
    Advertisement,
    build_advertisement,
    dhcp_domain,
    dhcp_name_servers,
    dhcp_options,
    dhcp_search,
    parse_advertisement,
)
from tcpip_wasm.engine.core import Core, Event, Statistics, decode_endpoint, seed_bytes
from tcpip_wasm.engine.error_codes import error_for
from tcpip_wasm.engine.observed_records import observe, unobserve
from tcpip_wasm.engine.ping_calls import ECHO_DATA, PingCalls
from tcpip_wasm.engine.records import FrameBuffers, record_size, split_records
from tcpip_wasm.engine.udp_calls import DATAGRAM_DATA, UdpCalls, encode_endpoint

__all__ = [
    "DATAGRAM_DATA",
    "ECHO_DATA",
    "INFINITE",
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
