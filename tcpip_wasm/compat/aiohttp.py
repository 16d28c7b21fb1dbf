"""The public name of `tcpip_wasm.compat.adapters.aiohttp_connector`."""

from tcpip_wasm.compat.adapters.aiohttp_connector import StackConnector, StackResolver

__all__ = ["StackConnector", "StackResolver"]
