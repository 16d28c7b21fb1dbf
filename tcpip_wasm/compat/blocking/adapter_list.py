"""`get_adapters`: the interfaces of a stack, in the form in which the ``ifaddr`` package lists the machine's.

Programs that list all local addresses, such as python-zeroconf, use that package, which calls the machine's C library.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from tcpip_wasm.stack import NetworkStack

machine_get_adapters: Callable[..., Any] | None = None
"""The package's own function, once it is replaced."""


def ifaddr_module() -> Any:
    """Return the ``ifaddr`` package, or None where it is not installed."""
    try:
        return importlib.import_module("ifaddr")
    except ImportError:
        return None


def adapters_of(stack: NetworkStack, include_unconfigured: bool = False) -> list[Any]:
    """Return the interfaces of a stack as ``ifaddr.get_adapters`` does those of the machine."""
    ifaddr = ifaddr_module()
    adapters = []
    for interface in stack.interfaces:
        ips = []
        for each in interface.addresses:
            scope = interface.handle if each.ip.version == 6 and each.ip.is_link_local else 0
            ip = str(each.ip) if each.ip.version == 4 else (str(each.ip), 0, scope)
            ips.append(ifaddr.IP(ip, each.network.prefixlen, interface.name))
        if ips or include_unconfigured:
            adapters.append(ifaddr.Adapter(interface.name, interface.name, ips, index=interface.handle))
    return adapters
