"""The public name of `tcpip_wasm.compat.adapters.httpcore_backend`."""

from tcpip_wasm.compat.adapters.httpcore_backend import StackBackend

__all__ = ["StackBackend"]
