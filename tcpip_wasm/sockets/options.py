"""Socket options: one table for every object of this package that has `getsockopt` and `setsockopt`.

Owns which options there are, what each is until it is set, which values it takes, and which the core carries out. There
are three kinds. Some the core carries out. Some are kept and answered, because they change nothing but speed. Others
would change what a program sees, which a stack cannot do: they answer what Linux answers by default, and any other
value is refused with ``ENOPROTOOPT``. Names that a system does not have are left out.

The reasons are in docs/explanation/existing-programs.md.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from tcpip_wasm.engine import abi
from tcpip_wasm.errors import network_error
from tcpip_wasm.sockets.congestion import ALGORITHMS

Key = tuple[int, int]
"""Level and name of an option."""

_SOCKET: Final = socket.SOL_SOCKET
_TCP: Final = socket.IPPROTO_TCP
_IP: Final = socket.IPPROTO_IP
_IP6: Final = socket.IPPROTO_IPV6
_MOST: Final = 2**31 - 1
_BUFFER_LIMIT: Final = 212_992
"""Bytes: Linux's ``net.core.rmem_max`` by default; what is asked for is cut to it, then doubled."""


class Option(NamedTuple):
    """What is known of one option.

    Attributes:
        default: its value until it is set.
        lowest, highest: values that may be set; others are ``EINVAL``.
        core: the ABI's option that carries it out, or 0.
        units: of the ABI's option in one of this one's.
        kinds: what has it: ``s`` sockets of streams, ``d`` of datagrams.
        fixed: whether any other value than the default is refused with ``ENOPROTOOPT``.
        flag: whether all values but 0 mean 1.
        reset: whether -1 sets the default.
    """

    default: int = 0
    lowest: int = -_MOST - 1
    highest: int = _MOST
    core: int = 0
    units: int = 1
    kinds: str = "sd"
    fixed: bool = False
    flag: bool = False
    reset: bool = False


_FLAG: Final = Option(flag=True)
_FIXED: Final = Option(fixed=True)

# Levels, and numbers for names that some versions of Python lack on Linux (include/uapi/linux/in.h, in6.h).
_TABLE: Final[dict[int, dict[str, Option]]] = {
    _SOCKET: {
        "SO_KEEPALIVE": Option(core=abi.OPTION_KEEPALIVE, flag=True),
        "SO_BROADCAST": Option(core=abi.OPTION_BROADCAST, flag=True),
        "SO_REUSEADDR": _FLAG,
        "SO_REUSEPORT": _FLAG,
        "SO_PRIORITY": Option(lowest=0, highest=6),  # more takes CAP_NET_ADMIN
        "SO_OOBINLINE": _FLAG,  # urgent data is data wherever it is read
        "SO_DEBUG": _FLAG,
        "SO_INCOMING_CPU": Option(default=-1),
        "SO_DONTROUTE": _FIXED,
        "SO_MARK": _FIXED,
        "SO_TIMESTAMP": _FIXED,
        "SO_TIMESTAMPNS": _FIXED,
        "SO_RCVLOWAT": Option(default=1, fixed=True),
        "SO_SNDLOWAT": Option(default=1, fixed=True),
    },
    _TCP: {
        "TCP_NODELAY": Option(default=1, core=abi.OPTION_NODELAY, flag=True, kinds="s"),
        "TCP_KEEPIDLE": Option(7200, 1, 32767, abi.OPTION_KEEPALIVE_IDLE, 1000, "s"),
        "TCP_KEEPALIVE": Option(7200, 1, 32767, abi.OPTION_KEEPALIVE_IDLE, 1000, "s"),
        "TCP_KEEPINTVL": Option(75, 1, 32767, abi.OPTION_KEEPALIVE_INTERVAL, 1000, "s"),
        "TCP_KEEPCNT": Option(9, 1, 127, abi.OPTION_KEEPALIVE_COUNT, 1, "s"),
        "TCP_CONGESTION": Option(0, 0, len(ALGORITHMS) - 1, abi.OPTION_CONGESTION_CONTROL, kinds="s"),
        "TCP_USER_TIMEOUT": Option(0, 0, _MOST, abi.OPTION_USER_TIMEOUT, 1, "s"),
        # These decide when segments leave, which RFC 9293 leaves to the sender; here data leaves when it is written.
        "TCP_CORK": Option(flag=True, kinds="s"),
        "TCP_QUICKACK": Option(default=1, flag=True, kinds="s"),
        "TCP_NOTSENT_LOWAT": Option(kinds="s"),
        "TCP_FASTOPEN": Option(lowest=0, kinds="s"),
        "TCP_DEFER_ACCEPT": Option(lowest=0, kinds="s"),
        "TCP_SYNCNT": Option(default=6, kinds="s", fixed=True),
        "TCP_LINGER2": Option(default=60, kinds="s", fixed=True),
    },
    _IP: {
        "IP_TTL": Option(64, 1, 255, abi.OPTION_HOP_LIMIT, reset=True),
        "IP_TOS": Option(core=abi.OPTION_TYPE_OF_SERVICE, lowest=0, highest=255),
        "IP_MULTICAST_TTL": Option(1, 0, 255, abi.OPTION_MULTICAST_HOP_LIMIT, reset=True, kinds="d"),
        "IP_MULTICAST_LOOP": Option(1, core=abi.OPTION_MULTICAST_LOOP, flag=True, kinds="d"),
        "IP_MULTICAST_ALL": Option(1, fixed=True, kinds="d"),
        "IP_MTU_DISCOVER": Option(1, 0, 5, abi.OPTION_PATH_MTU_DISCOVERY),
        "IP_RECVERR": _FIXED,
        "IP_RECVTOS": _FIXED,
        "IP_RECVTTL": _FIXED,
        "IP_RECVOPTS": _FIXED,
        "IP_RETOPTS": _FIXED,
        "IP_PKTINFO": _FIXED,
        "IP_FREEBIND": _FIXED,
        "IP_TRANSPARENT": _FIXED,
        "IP_BIND_ADDRESS_NO_PORT": _FLAG,
    },
    _IP6: {
        "IPV6_V6ONLY": _FLAG,
        "IPV6_UNICAST_HOPS": Option(64, 1, 255, abi.OPTION_HOP_LIMIT, reset=True),
        "IPV6_TCLASS": Option(0, 0, 255, abi.OPTION_TYPE_OF_SERVICE, reset=True),
        "IPV6_MULTICAST_HOPS": Option(1, 0, 255, abi.OPTION_MULTICAST_HOP_LIMIT, reset=True, kinds="d"),
        "IPV6_MULTICAST_LOOP": Option(1, 0, 1, abi.OPTION_MULTICAST_LOOP, kinds="d"),
        "IPV6_MULTICAST_IF": Option(0, 0, _MOST, abi.OPTION_MULTICAST_INTERFACE, kinds="d"),
        "IPV6_MTU_DISCOVER": Option(1, fixed=True),
        "IPV6_RECVERR": _FIXED,
        "IPV6_RECVPKTINFO": _FIXED,
        "IPV6_RECVHOPLIMIT": _FIXED,
        "IPV6_RECVTCLASS": _FIXED,
        "IPV6_DONTFRAG": _FIXED,
    },
}
_NUMBERS: Final = {
    "SO_TIMESTAMP": 29,
    "SO_TIMESTAMPNS": 35,
    "IP_MTU_DISCOVER": 10,
    "IP_RECVERR": 11,
    "IP_RECVTTL": 12,
    "IP_PKTINFO": 8,
    "IP_FREEBIND": 15,
    "IP_MULTICAST_ALL": 49,
    "IPV6_MTU_DISCOVER": 23,
    "IPV6_RECVERR": 25,
}
_LINUX: Final = hasattr(socket, "SO_DOMAIN")


def _number(name: str) -> int | None:
    number = getattr(socket, name, _NUMBERS.get(name) if _LINUX else None)
    return number if isinstance(number, int) else None


OPTIONS: Final[dict[Key, Option]] = {
    (level, found): option
    for level, named in _TABLE.items()
    for name, option in named.items()
    if (found := _number(name)) is not None
}
"""(level, name) -> what is known of it."""

GROUPS: Final[dict[Key, bool]] = {
    (level, found): joins
    for level, name, joins in (
        (_IP, "IP_ADD_MEMBERSHIP", True),
        (_IP, "IP_DROP_MEMBERSHIP", False),
        (_IP6, "IPV6_JOIN_GROUP", True),
        (_IP6, "IPV6_LEAVE_GROUP", False),
    )
    if (found := _number(name)) is not None
}
"""(level, name) of what joins a group (True) or leaves one."""


def _key(level: int, name: str) -> Key:
    number = _number(name)
    return level, -1 if number is None else number


LINGER: Final = _key(_SOCKET, "SO_LINGER")
DEVICE: Final = _key(_SOCKET, "SO_BINDTODEVICE")
GROUP_INTERFACE: Final = _key(_IP, "IP_MULTICAST_IF")
SEGMENT_SIZE: Final = _key(_TCP, "TCP_MAXSEG")
INFORMATION: Final = _key(_TCP, "TCP_INFO")
REUSE_ADDRESS: Final = _key(_SOCKET, "SO_REUSEADDR")
REUSE_PORT: Final = _key(_SOCKET, "SO_REUSEPORT")
V6_ONLY: Final = _key(_IP6, "IPV6_V6ONLY")
CONGESTION: Final = _key(_TCP, "TCP_CONGESTION")
_PATH_MTU: Final = _key(_IP, "IP_MTU_DISCOVER")
_WINDOW_CLAMP: Final = _key(_TCP, "TCP_WINDOW_CLAMP")
_RECEIVE_BUFFER: Final = _key(_SOCKET, "SO_RCVBUF")
_SEND_BUFFER: Final = _key(_SOCKET, "SO_SNDBUF")
_NAME_LENGTH: Final = 16
"""Bytes in which Linux answers the name of an algorithm (TCP_CA_NAME_MAX)."""

_PATH_MTU_DO: Final = 2
"""Linux's IP_PMTUDISC_DO: segments that no router may fragment. What is more ignores the path's MTU."""

_MASKED: Final = {_key(_IP, "IP_TOS"), _key(_IP6, "IPV6_TCLASS")}
_UNCONNECTED_SEGMENT: Final = 536
"""Bytes, as Linux reports for a socket without connection: what any peer takes (RFC 9293, section 3.7.1)."""


class Values:
    """The options of one socket.

    Args:
        kind: ``SOCK_STREAM`` or ``SOCK_DGRAM``.
        family: ``AF_INET`` or ``AF_INET6``.

    Attributes:
        given: the values that were set, by (level, name).
        linger: seconds that `close` may wait for what was sent; 0 resets the connection; None closes in the background.
        waits: the number that goes with ``SO_LINGER``, whether it is on or off.
        group_address: own address of the interface for groups, as it was set.
    """

    def __init__(self, kind: int, family: int) -> None:
        self.kind = kind
        self.family = family
        self.given: dict[Key, int] = {}
        self.linger: int | None = None
        self.waits: int = 0
        self.group_address: bytes = bytes(4)

    def copy(self) -> Values:
        """Return what a connection takes over from its listener."""
        other = Values(self.kind, self.family)
        other.given = dict(self.given)
        other.linger, other.waits = self.linger, self.waits
        return other

    def flag(self, key: Key) -> bool:
        """Whether an option was switched on."""
        return bool(self.given.get(key, 0))

    def share(self) -> int:
        """Return the bits of the ABI for whether the socket shares its port."""
        reuse = abi.SHARE_PORT if self.flag(REUSE_PORT) else 0
        return reuse | (abi.SHARE_ADDRESS if self.flag(REUSE_ADDRESS) and self.kind == socket.SOCK_DGRAM else 0)

    def _option(self, key: Key) -> Option:
        option = OPTIONS.get(key)
        letter = "s" if self.kind == socket.SOCK_STREAM else "d"
        of_group = option is not None and option.kinds == "d" and key[0] in (_IP, _IP6)  # Linux takes these of TCP, too
        if option is None or not (letter in option.kinds or of_group) or not self._has_level(key[0]):
            raise network_error(errno.ENOPROTOOPT, f"option {key[1]} of level {key[0]}")
        return option

    def _has_level(self, level: int) -> bool:
        return level != _IP6 or self.family == socket.AF_INET6

    # --- Reading --------------------------------------------------------------------------------------------------

    def read(self, key: Key, information: Mapping[str, int] | None = None) -> int | bytes:
        """Return an option's value.

        Args:
            key: level and name.
            information: of a connection, what `Core.tcp_information` returns.

        Raises:
            OSError: ``ENOPROTOOPT`` for an option that this socket does not have.
        """
        stream = self.kind == socket.SOCK_STREAM
        if key == LINGER:
            return struct.pack("ii", self.linger is not None, self.waits)
        if key == DEVICE:
            return b""
        if key in (_RECEIVE_BUFFER, _SEND_BUFFER):
            size = abi.TCP_WINDOW if key == _RECEIVE_BUFFER else abi.TCP_SEND_BUFFER
            return self.given.get(key, size if stream else _BUFFER_LIMIT)
        if key == _key(_SOCKET, "SO_ACCEPTCONN"):
            return 0  # a listener answers for itself
        if key == (_SOCKET, socket.SO_TYPE):
            return int(self.kind)
        if key == _key(_SOCKET, "SO_DOMAIN"):
            return int(self.family)
        if key == _key(_SOCKET, "SO_PROTOCOL"):
            return _TCP if stream else socket.IPPROTO_UDP
        if key == GROUP_INTERFACE:
            return self.group_address
        if stream and key == CONGESTION:
            which = information["CONGESTION_CONTROL"] if information else self.given.get(key, 0)
            return ALGORITHMS[which].encode().ljust(_NAME_LENGTH, b"\0")
        if stream and key == SEGMENT_SIZE:
            return information["SEGMENT_SIZE"] if information else _UNCONNECTED_SEGMENT
        if stream and key == _WINDOW_CLAMP:
            return abi.TCP_WINDOW if information else 0
        if stream and key == INFORMATION:
            return tcp_info(information)
        option = self._option(key)
        return self.given.get(key, option.default)

    # --- Setting --------------------------------------------------------------------------------------------------

    def write(self, key: Key, value: Any, information: Mapping[str, int] | None = None) -> tuple[int, int] | None:
        """Set an option, and return the ABI's option and value that carry it out, or None.

        Args:
            key: level and name.
            value: a number, or bytes that hold one.
            information: as for `read`.

        Raises:
            OSError: ``ENOPROTOOPT`` for an option that this socket does not have or a value that no stack carries out,
                ``EINVAL`` for a value that it cannot have, ``ENODEV``, ``ENOENT``.
            TypeError: neither a number nor bytes.
        """
        if key == LINGER:
            self._set_linger(value)
            return None
        if key == DEVICE:
            if bytes(value).strip(b"\0"):
                raise network_error(errno.ENOPROTOOPT, f"SO_BINDTODEVICE to {bytes(value)!r}")
            return None
        stream = self.kind == socket.SOCK_STREAM
        if stream and key == CONGESTION:
            value = _algorithm(value)
        if stream and key in (SEGMENT_SIZE, _WINDOW_CLAMP):
            self._check_limit(key, number(key, value), information)
            return None
        if key in (_RECEIVE_BUFFER, _SEND_BUFFER):
            least = 2304 if key == _RECEIVE_BUFFER else 4608
            self.given[key] = max(least, 2 * min(number(key, value), _BUFFER_LIMIT))
            return None
        option = self._option(key)
        wanted = number(key, value)
        wanted = option.default if option.reset and wanted == -1 else int(wanted != 0) if option.flag else wanted
        fixed = option.fixed or (key == _PATH_MTU and (not stream or _PATH_MTU_DO < wanted <= option.highest))
        if fixed and wanted != option.default:
            raise network_error(errno.ENOPROTOOPT, f"option {key[1]} of level {key[0]} is always {option.default}")
        if key in _MASKED:
            wanted &= 0xFC if stream else 0xFF  # of TCP the ECN bits are not a program's (RFC 3168)
        if not option.lowest <= wanted <= option.highest:
            raise network_error(errno.EINVAL, f"option {key[1]} of level {key[0]}: {wanted}")
        self.given[key] = wanted
        return self._for_core(key, option, wanted)

    def _for_core(self, key: Key, option: Option, value: int) -> tuple[int, int] | None:
        letter = "s" if self.kind == socket.SOCK_STREAM else "d"
        applies = letter in option.kinds and (option.core != abi.OPTION_BROADCAST or letter == "d")
        of_streams = option.core in (abi.OPTION_KEEPALIVE, abi.OPTION_PATH_MTU_DISCOVERY)
        if not option.core or not applies or (of_streams and letter == "d"):
            return None
        return option.core, value * option.units

    def for_core(self) -> dict[int, int]:
        """Return what was set in the ABI's terms."""
        pairs = (self._for_core(key, OPTIONS[key], value) for key, value in self.given.items() if key in OPTIONS)
        return dict(pair for pair in pairs if pair is not None)

    def _set_linger(self, value: Any) -> None:
        if isinstance(value, int) or len(value) < 8:
            raise network_error(errno.EINVAL, f"SO_LINGER is two numbers, not {value!r}")
        on, self.waits = struct.unpack_from("ii", value)
        self.linger = max(0, self.waits) if on else None

    def _check_limit(self, key: Key, wanted: int, information: Mapping[str, int] | None) -> None:
        """Refuse what would make segments or the window smaller; what is no less than they are changes nothing."""
        if wanted < 0:
            raise network_error(errno.EINVAL, f"option {key[1]} of TCP: {wanted}")
        if wanted != 0 and wanted < int(self.read(key, information)):
            raise network_error(errno.ENOPROTOOPT, f"option {key[1]} of TCP: less than it is, {wanted}")


def _algorithm(value: Any) -> int:
    """Return the ABI's number of the algorithm whose name is the value of ``TCP_CONGESTION``.

    Raises:
        OSError: ``ENOENT``, as Linux, for an algorithm that there is not.
        TypeError: no bytes.
    """
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"the name of an algorithm must be bytes, not {type(value).__name__}")
    name = bytes(value).split(b"\0")[0]
    known = [one.encode() for one in ALGORITHMS]
    if name not in known:
        raise network_error(errno.ENOENT, f"congestion control {name!r}: there are {' and '.join(ALGORITHMS)}")
    return known.index(name)


def number(key: Key, value: Any) -> int:
    """Return the number that an option's value stands for. Of the level of IPv4 one byte is enough, as on Linux.

    Raises:
        TypeError: neither a number nor bytes.
        OSError: ``EINVAL`` for bytes that are no int.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        if len(value) >= 4:
            return int(struct.unpack_from("i", value)[0])
        if key[0] == _IP and len(value) >= 1:
            return int(bytes(value)[0])
        raise network_error(errno.EINVAL, f"an option's value of {len(value)} bytes")
    if not isinstance(value, int):
        raise TypeError(f"value must be an int or bytes, not {type(value).__name__}")
    if not -_MOST - 1 <= value <= _MOST:
        raise OverflowError("Python int too large to convert to C int")
    return value


def answer(value: int | bytes, length: int) -> Any:
    """Return an option's value as `socket.getsockopt` does: a number, or bytes where a length is given.

    Raises:
        OSError: ``EINVAL`` for a length that is not within 0 to 1024.
    """
    if not 0 <= length <= 1024:
        raise network_error(errno.EINVAL, "getsockopt buflen out of range")
    if length:
        return (value if isinstance(value, bytes) else struct.pack("i", value))[:length]
    return value if isinstance(value, int) else int.from_bytes(value[:4].ljust(4, b"\0"), "little", signed=True)


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
        return socket.inet_ntop(socket.AF_INET6, value[:16]), int(struct.unpack_from("I", value, 16)[0])
    if level == _IP and len(value) >= 8:
        return socket.inet_ntoa(value[:4]), _interface(value)
    raise network_error(errno.EINVAL, f"a membership of {len(value)} bytes")


def group_interface(value: Any) -> tuple[bytes, str | int]:
    """Return the address in a value of ``IP_MULTICAST_IF``, and the address or index of an interface; 0 is any.

    Raises:
        OSError: ``EINVAL`` for what is no address, ``ip_mreq`` or ``ip_mreqn``.
    """
    if isinstance(value, int):
        value = struct.pack("=I", value & 0xFFFFFFFF)
    value = bytes(value)
    if len(value) >= 8:
        return value[4:8], _interface(value)
    if len(value) >= 4:
        return value[:4], socket.inet_ntoa(value[:4]) if value[:4] != bytes(4) else 0
    raise network_error(errno.EINVAL, f"IP_MULTICAST_IF of {len(value)} bytes")


def _interface(value: bytes) -> str | int:
    """Return the interface of an ``ip_mreq`` or ``ip_mreqn``, in which the index comes first."""
    if len(value) >= 12 and value[8:12] != bytes(4):
        return int(struct.unpack_from("i", value, 8)[0])
    return socket.inet_ntoa(value[4:8]) if value[4:8] != bytes(4) else 0


_STATES: Final = (7, 10, 2, 3, 1, 4, 5, 8, 11, 9, 6)
"""Of lwIP's number of a state, Linux's."""

_RECOVERY: Final = (0, 3, 4)
"""Of the core's state of recovery, Linux's: TCP_CA_Open, TCP_CA_Recovery, TCP_CA_Loss."""


def tcp_info(information: Mapping[str, int] | None, state: int = 7) -> bytes:
    """Return Linux's ``struct tcp_info`` as far as ``tcpi_total_retrans``; what the core does not count is 0.

    Args:
        information: what `Core.tcp_information` returns, or None without connection.
        state: Linux's number of the state without connection: 7 is closed, 10 listening.
    """
    if information is None:
        return bytes([state]).ljust(104, b"\0")
    segment = max(1, information["SEGMENT_SIZE"])
    features = information["FEATURES"]
    fields = dict.fromkeys(range(24), 0) | {
        0: information["RTO"] * 1000,
        2: segment,
        3: segment,
        4: -(-information["UNACKNOWLEDGED"] // segment),
        14: information["RECEIVE_WINDOW"],
        15: information["ROUND_TRIP"],
        16: information["ROUND_TRIP_VARIATION"],
        17: min(information["SLOW_START_THRESHOLD"] // segment, _MOST),
        18: max(1, information["CONGESTION_WINDOW"] // segment),
        19: segment,
        20: 3,  # duplicate acknowledgements before data counts as lost (RFC 5681, section 3.2)
        22: information["RECEIVE_WINDOW"],
        23: information["TOTAL_RETRANSMISSIONS"],
    }
    retransmissions = min(information["RETRANSMISSIONS"], 255)
    states = _STATES[information["STATE"]], _RECOVERY[information["RECOVERY"]]
    head = (*states, retransmissions, 0, retransmissions, features, information["SCALES"], 0)
    return struct.pack("8B24I", *head, *fields.values())
