"""The packets of Wisp, versions 1.2 and 2.0: TCP and UDP streams over one WebSocket.

A message is one packet: type, stream, payload; numbers have their least significant byte first. Pure functions: they
know neither sockets nor time.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct, error
from typing import Final

HEADER: Final = Struct("<BI")
_CONNECT: Final = Struct("<BH")
_CONTINUE: Final = Struct("<I")
_EXTENSION: Final = Struct("<BI")
_PASSWORD: Final = Struct("<BH")

VERSION: Final = (2, 0)


class PacketType(IntEnum):
    """What a packet is."""

    CONNECT = 0x01
    DATA = 0x02
    CONTINUE = 0x03
    CLOSE = 0x04
    INFO = 0x05


class StreamType(IntEnum):
    """What a stream carries."""

    TCP = 0x01
    UDP = 0x02


class CloseReason(IntEnum):
    """Why a stream has ended."""

    UNKNOWN = 0x01
    VOLUNTARY = 0x02
    NETWORK_ERROR = 0x03
    INCOMPATIBLE = 0x04
    INVALID = 0x41
    UNREACHABLE = 0x42
    TIMED_OUT = 0x43
    REFUSED = 0x44
    IDLE = 0x47
    BLOCKED = 0x48
    THROTTLED = 0x49
    CLIENT_ERROR = 0x81
    WRONG_PASSWORD = 0xC0
    WRONG_SIGNATURE = 0xC1
    NO_CREDENTIALS = 0xC2


class Extension(IntEnum):
    """What a side supports beyond TCP."""

    UDP = 0x01
    PASSWORD = 0x02
    MESSAGE_OF_THE_DAY = 0x04
    STREAM_CONFIRMATION = 0x05


def pack(kind: PacketType, stream: int, payload: bytes | memoryview = b"") -> bytes:
    """Return a packet."""
    return HEADER.pack(kind, stream) + bytes(payload)


def unpack(message: bytes) -> tuple[PacketType, int, memoryview]:
    """Return a packet's type, stream and payload.

    Raises:
        ValueError: it is too short, or of an unknown type.
    """
    if len(message) < HEADER.size:
        raise ValueError(f"a Wisp packet has {HEADER.size} bytes or more, not {len(message)}")
    kind, stream = HEADER.unpack_from(message)
    return PacketType(kind), stream, memoryview(message)[HEADER.size :]


def pack_connect(stream: int, kind: StreamType, host: str, port: int) -> bytes:
    """Return a packet that opens a stream."""
    return pack(PacketType.CONNECT, stream, _CONNECT.pack(kind, port) + host.encode())


def unpack_connect(payload: memoryview) -> tuple[StreamType, str, int]:
    """Return the type, the host and the port of a stream to open.

    Raises:
        ValueError: the payload is too short, the type is unknown, or the host is empty or no text.
    """
    try:
        kind, port = _CONNECT.unpack_from(payload)
    except error as short:
        raise ValueError("a CONNECT packet is too short") from short
    host = bytes(payload[_CONNECT.size :]).decode()
    if not host or not port:
        raise ValueError(f"a CONNECT packet names no destination: {host!r} port {port}")
    return StreamType(kind), host, port


def pack_continue(stream: int, packets: int) -> bytes:
    """Return a packet that grants the client so many DATA packets."""
    return pack(PacketType.CONTINUE, stream, _CONTINUE.pack(packets))


def unpack_continue(payload: memoryview) -> int:
    """Return how many DATA packets are granted. Raises ValueError where the payload is too short."""
    if len(payload) < _CONTINUE.size:
        raise ValueError("a CONTINUE packet is too short")
    packets: int = _CONTINUE.unpack_from(payload)[0]
    return packets


def pack_close(stream: int, reason: CloseReason) -> bytes:
    """Return a packet that ends a stream."""
    return pack(PacketType.CLOSE, stream, bytes([reason]))


def unpack_close(payload: memoryview) -> CloseReason:
    """Return the reason; one that is missing or unknown is `CloseReason.UNKNOWN`."""
    try:
        return CloseReason(payload[0])
    except (IndexError, ValueError):
        return CloseReason.UNKNOWN


def pack_info(extensions: dict[int, bytes]) -> bytes:
    """Return a packet with the version and the extensions of this side."""
    payload = bytes(VERSION)
    for number, metadata in extensions.items():
        payload += _EXTENSION.pack(number, len(metadata)) + metadata
    return pack(PacketType.INFO, 0, payload)


def unpack_info(payload: memoryview) -> dict[int, bytes]:
    """Return the extensions of the other side, by number.

    Raises:
        ValueError: the packet ends in the middle, or the version is not 2.
    """
    if len(payload) < 2 or payload[0] != VERSION[0]:
        raise ValueError(f"Wisp 2 is needed, not an INFO packet {bytes(payload[:2]).hex()!r}")
    extensions, offset = {}, 2
    while offset < len(payload):
        try:
            number, size = _EXTENSION.unpack_from(payload, offset)
        except error as short:
            raise ValueError("an INFO packet is too short") from short
        offset += _EXTENSION.size
        if offset + size > len(payload):
            raise ValueError(f"extension {number} has {size} bytes, more than the INFO packet")
        extensions[number] = bytes(payload[offset : offset + size])
        offset += size
    return extensions


def pack_password(user: str, password: str) -> bytes:
    """Return a client's metadata of `Extension.PASSWORD`. Raises ValueError where one is too long."""
    name, word = user.encode(), password.encode()
    if len(name) > 0xFF or len(word) > 0xFFFF:
        raise ValueError("user and password: up to 255 and 65535 bytes are needed")
    return _PASSWORD.pack(len(name), len(word)) + name + word


def unpack_password(metadata: bytes) -> tuple[str, str]:
    """Return the user and the password that a client sent. Raises ValueError where they are malformed."""
    try:
        name, word = _PASSWORD.unpack_from(metadata)
    except error as short:
        raise ValueError("no user and password") from short
    rest = metadata[_PASSWORD.size :]
    if len(rest) != name + word:
        raise ValueError(f"user and password have {len(rest)} bytes, not {name + word}")
    return rest[:name].decode(), rest[name:].decode()
