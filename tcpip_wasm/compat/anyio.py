"""The public name of `tcpip_wasm.compat.adapters.anyio_stream`."""

from tcpip_wasm.compat.adapters.anyio_stream import StackListener, StackStream

__all__ = ["StackListener", "StackStream"]
