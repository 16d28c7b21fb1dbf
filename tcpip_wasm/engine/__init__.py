"""The engine: one instance of ``lwip.wasm``, driven from Python, without I/O.

    module     the binary, compiled once a process and cached between processes
    calls      calls into an instance, the fast way and the public way
    instance   one instance: calls, memory, death
    core       the sans-I/O core: frames in, frames out, socket calls, events, deadlines; `now` comes from the caller
    udp        UDP sockets of a core
    ping       ping sessions of a core
    failures   error codes as exceptions
    abi        generated: what crosses the boundary

Only this package imports wasmtime, and it imports neither asyncio nor a clock.
"""

from tcpip_wasm.engine.core import (
    Address,
    Core,
    Event,
    FrameBuffers,
    Statistics,
    decode_endpoint,
    record_size,
    seed_bytes,
    split_records,
)
from tcpip_wasm.engine.failures import error_for
from tcpip_wasm.engine.ping import ECHO_DATA, PingCalls
from tcpip_wasm.engine.udp import DATAGRAM_DATA, UdpCalls, encode_endpoint

__all__ = [
    "DATAGRAM_DATA",
    "ECHO_DATA",
    "Address",
    "Core",
    "Event",
    "FrameBuffers",
    "PingCalls",
    "Statistics",
    "UdpCalls",
    "decode_endpoint",
    "encode_endpoint",
    "error_for",
    "record_size",
    "seed_bytes",
    "split_records",
]
