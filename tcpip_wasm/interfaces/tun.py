"""The point-to-point interface of IP packets: `TunInterface`."""

from __future__ import annotations

from tcpip_wasm.engine import abi
from tcpip_wasm.interfaces.frames import StreamInterface


class TunInterface(StreamInterface):
    """A point-to-point interface of IP packets, as a VPN or a tunnel carries them."""

    type = "tun"
    kind = abi.KIND_TUN
