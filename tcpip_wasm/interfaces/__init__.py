"""Interfaces: loopback, tun, tap, and what can be attached to them.

    addresses   reading addresses, MACs and MTUs
    interface   what all have in common; the `Port` that listens
    frames      an interface's frames as streams
    configure   SLAAC, DHCP and duplicate detection
    advertise   the router's side of SLAAC
    kinds       loopback, tun, tap
    cable       two interfaces joined
    bridge      taps of one stack joined
    routes      where packets go next
    drops       log records of what was dropped, by cause
"""

from tcpip_wasm.interfaces.advertise import RouterAdvertiser
from tcpip_wasm.interfaces.bridge import BridgeInterface
from tcpip_wasm.interfaces.cable import Cable, connect
from tcpip_wasm.interfaces.configure import AutoconfiguredAddress, Lease
from tcpip_wasm.interfaces.interface import Interface, InterfaceStatistics, Observer, Port
from tcpip_wasm.interfaces.kinds import LoopbackInterface, StreamInterface, TapInterface, TunInterface
from tcpip_wasm.interfaces.routes import Route

__all__ = [
    "AutoconfiguredAddress",
    "BridgeInterface",
    "Cable",
    "Interface",
    "InterfaceStatistics",
    "Lease",
    "LoopbackInterface",
    "Observer",
    "Port",
    "Route",
    "RouterAdvertiser",
    "StreamInterface",
    "TapInterface",
    "TunInterface",
    "connect",
]
