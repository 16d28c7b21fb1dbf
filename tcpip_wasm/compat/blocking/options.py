"""Options of `compat.socket`'s sockets, for the program's thread, over the table of `sockets.options`."""

from __future__ import annotations

import errno
import socket as real
from typing import Any, Final

from tcpip_wasm.compat.blocking import datagrams
from tcpip_wasm.compat.blocking.relay import StreamRelay
from tcpip_wasm.compat.blocking.socket_pair import Channel, State
from tcpip_wasm.sockets import options
from tcpip_wasm.sockets.transport_socket import LISTENING

_TIMEOUTS: Final = {(real.SOL_SOCKET, real.SO_RCVTIMEO), (real.SOL_SOCKET, real.SO_SNDTIMEO)}
"""Options for how long a call may block; the program's end of the pair is what blocks, so it has them."""

_CONNECTION_OPTIONS: Final = (
    options.SEGMENT_SIZE,
    options.INFORMATION,
    options.CONGESTION,
    (real.IPPROTO_TCP, getattr(real, "TCP_WINDOW_CLAMP", -1)),
)
"""Options whose values the connection determines."""


def is_of_the_pair(level: int, name: int) -> bool:
    """Whether an option is read from and set on the program's end of the pair."""
    return (level, name) in _TIMEOUTS


def _information(channel: Channel, key: options.Key) -> dict[str, int] | None:
    if key not in _CONNECTION_OPTIONS or channel.state is not State.CONNECTED:
        return None
    relay: StreamRelay = channel.relay
    return channel.host.call(relay.information())


def read(channel: Channel, level: int, name: int) -> int | bytes:
    """Return an option's value.

    Raises:
        OSError: ``ENOPROTOOPT`` for an option without meaning here.
    """
    key = level, name
    if level == real.SOL_SOCKET:
        if name == real.SO_ERROR:
            error = channel.take_error()
            return 0 if error is None else getattr(error, "errno", None) or errno.EIO
        if name == real.SO_ACCEPTCONN:
            return int(channel.state is State.LISTENING)
    if key == options.INFORMATION and channel.state is State.LISTENING:
        return options.tcp_info(None, LISTENING)
    return channel.values.read(key, _information(channel, key))


def write(sock: Any, level: int, name: int, value: Any) -> None:
    """Set an option.

    Raises: what `Values.write` raises.
    """
    channel: Channel = sock._channel  # noqa: SLF001  a subclass of socket.socket keeps its own names apart by the underscore
    key = level, name
    if not sock._is_stream:  # noqa: SLF001  a subclass of socket.socket keeps its own names apart by the underscore
        if key in options.GROUPS:
            datagrams.group(sock, options.GROUPS[key], *options.group(level, value))
            return
        if key == options.GROUP_INTERFACE:
            address, interface = options.group_interface(value)
            channel.host.call(channel.relay.choose_interface(interface))
            channel.values.group_address = address
            return
    core = channel.values.write(key, value, _information(channel, key))
    if core is not None:
        channel.host.call(channel.relay.option(*core))
