"""Options of the stand-in's sockets: which have a meaning on a stack, and how they are written."""

from __future__ import annotations

import errno
import socket as real
import struct
from typing import Any, Final

from tcpip_wasm.compat.channel import Channel, State
from tcpip_wasm.engine import abi
from tcpip_wasm.errors import network_error
from tcpip_wasm.sockets.stand_in import _HINTS, _OPTIONS, _constants

TCP_OPTIONS: Final = _OPTIONS
_IP: Final = real.IPPROTO_IP
_IP6: Final = real.IPPROTO_IPV6
_BUFFER: Final = 212_992
"""Bytes of a pair's buffers on Linux, each way."""

UDP_OPTIONS: Final = {
    **dict.fromkeys(_constants(real.SOL_SOCKET, "SO_BROADCAST"), abi.OPTION_BROADCAST),
    **dict.fromkeys(_constants(_IP, "IP_TTL"), abi.OPTION_HOP_LIMIT),
    **dict.fromkeys(_constants(_IP6, "IPV6_UNICAST_HOPS"), abi.OPTION_HOP_LIMIT),
    **dict.fromkeys(_constants(_IP, "IP_MULTICAST_TTL"), abi.OPTION_MULTICAST_HOP_LIMIT),
    **dict.fromkeys(_constants(_IP6, "IPV6_MULTICAST_HOPS"), abi.OPTION_MULTICAST_HOP_LIMIT),
    **dict.fromkeys(_constants(_IP6, "IPV6_MULTICAST_IF"), abi.OPTION_MULTICAST_INTERFACE),
}
"""(level, name) of an option -> option of the ABI."""

GROUPS: Final = {
    **dict.fromkeys(_constants(_IP, "IP_ADD_MEMBERSHIP"), True),
    **dict.fromkeys(_constants(_IP, "IP_DROP_MEMBERSHIP"), False),
    **dict.fromkeys(_constants(_IP6, "IPV6_JOIN_GROUP"), True),
    **dict.fromkeys(_constants(_IP6, "IPV6_LEAVE_GROUP"), False),
}
"""(level, name) of what joins a group (True) or leaves one."""

_DEFAULTS: Final = {
    (real.IPPROTO_TCP, real.TCP_NODELAY): 1,  # as the stack's connections are from the start
    (real.SOL_SOCKET, real.SO_RCVBUF): _BUFFER,
    (real.SOL_SOCKET, real.SO_SNDBUF): _BUFFER,
    (_IP, real.IP_TTL): 64,
    (_IP, real.IP_MULTICAST_TTL): 1,
    (_IP6, real.IPV6_UNICAST_HOPS): 64,
    (_IP6, real.IPV6_MULTICAST_HOPS): 1,
}


def number(value: Any) -> int:
    """Return the number that an option's value stands for.

    Raises:
        TypeError: neither a number nor bytes.
        OSError: ``EINVAL`` for bytes that are no int.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        if len(value) < 4:
            raise network_error(errno.EINVAL, f"an option's value of {len(value)} bytes")
        return int(struct.unpack_from("i", value)[0])
    if not isinstance(value, int):
        raise TypeError(f"value must be an int or bytes, not {type(value).__name__}")
    return value


def check(channel: Channel, level: int, option: int) -> None:
    """Raise ``ENOPROTOOPT`` for an option without meaning here."""
    key = level, option
    known = key in TCP_OPTIONS if channel.kind == real.SOCK_STREAM else key in UDP_OPTIONS
    if not known and key not in _HINTS and key != (real.SOL_SOCKET, real.SO_BROADCAST):
        raise network_error(errno.ENOPROTOOPT, f"option {option} of level {level}")


def read(channel: Channel, level: int, option: int) -> int:
    """Return an option's value.

    Raises:
        OSError: ``ENOPROTOOPT``.
    """
    if level == real.SOL_SOCKET:
        if option == real.SO_ERROR:
            error = channel.take_error()
            return 0 if error is None else getattr(error, "errno", None) or errno.EIO
        if option == real.SO_TYPE:
            return channel.kind
        if option == real.SO_ACCEPTCONN:
            return int(channel.state is State.LISTENING)
        if option == getattr(real, "SO_DOMAIN", None):
            return channel.family
        if option == getattr(real, "SO_PROTOCOL", None):
            return real.IPPROTO_TCP if channel.kind == real.SOCK_STREAM else real.IPPROTO_UDP
    check(channel, level, option)
    key = level, option
    return channel.options.get(key, _DEFAULTS.get(key, 0))


def for_udp(channel: Channel) -> dict[int, int]:
    """Return the options that were set in the ABI's terms."""
    return {UDP_OPTIONS[key]: value for key, value in channel.options.items() if key in UDP_OPTIONS}


def group(level: int, value: Any) -> tuple[str, str | int]:
    """Return the group of a membership, and the address or index of its interface; 0 is any.

    Raises:
        OSError: ``EINVAL`` for what is no ``ip_mreq``, ``ip_mreqn`` or ``ipv6_mreq``.
        TypeError: no bytes.
    """
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"a membership must be bytes, not {type(value).__name__}")
    value = bytes(value)
    if level == _IP6 and len(value) >= 20:
        return real.inet_ntop(real.AF_INET6, value[:16]), int(struct.unpack_from("I", value, 16)[0])
    if level == _IP and len(value) >= 12 and value[8:12] != bytes(4):
        return real.inet_ntoa(value[:4]), int(struct.unpack_from("i", value, 8)[0])
    if level == _IP and len(value) >= 8:
        return real.inet_ntoa(value[:4]), real.inet_ntoa(value[4:8]) if value[4:8] != bytes(4) else 0
    raise network_error(errno.EINVAL, f"a membership of {len(value)} bytes")
