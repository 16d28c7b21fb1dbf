"""Interfaces: loopback, tun, tap, and what can be attached to them.

interface            what all have in common; the `Port` that receives an interface's frames
interface_arguments  addresses, MACs and MTUs as callers write them
frames               an interface's frames as streams
loopback             the interface of a stack to itself
tun                  IP packets, point to point
tap                  Ethernet
table                the interfaces of a stack by name, handle and address
cable                joins two interfaces
bridge               joins taps of one stack
advertising          router advertisements of a tap or a bridge
autoconfiguration    SLAAC, DHCP and duplicate detection
router_advertiser    the router's side of SLAAC
routing_table        next hops
drops                log records of what was dropped, by cause
"""

from tcpip_wasm.interfaces.autoconfiguration import AutoconfiguredAddress, Lease
from tcpip_wasm.interfaces.bridge import BridgeInterface
from tcpip_wasm.interfaces.cable import Cable, connect
from tcpip_wasm.interfaces.frames import StreamInterface
from tcpip_wasm.interfaces.interface import Interface, InterfaceStatistics, Observer, Port
from tcpip_wasm.interfaces.loopback import LoopbackInterface
from tcpip_wasm.interfaces.router_advertiser import RouterAdvertiser
from tcpip_wasm.interfaces.routing_table import Route
from tcpip_wasm.interfaces.tap import TapInterface
from tcpip_wasm.interfaces.tun import TunInterface

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
