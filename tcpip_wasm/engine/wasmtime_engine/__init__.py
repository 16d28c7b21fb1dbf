"""The port for wasmtime. Only this package imports it.

module     the binary, compiled once a process and cached between processes
calls      calls into an instance: the fast way, and wasmtime's public one
sandbox    one instance: `port.Sandbox`
"""

from tcpip_wasm.engine.wasmtime_engine.sandbox import instantiate

__all__ = ["instantiate"]
