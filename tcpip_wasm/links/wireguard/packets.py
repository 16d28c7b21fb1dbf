"""Encrypts records of packets into batches of messages, and batches of messages into records of packets.

Owns the two loops that run once for each packet, and their buffer. A batch goes to one address, and all its messages
but the last have one size: that is what UDP_SEGMENT sends by one call. Must not know sockets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag

from tcpip_wasm.engine import abi
from tcpip_wasm.links.wireguard.messages import (
    HEADER,
    HEADER_BYTES,
    NONCE,
    OVERHEAD,
    PADDING,
    REJECT_AFTER_MESSAGES,
    REJECT_AFTER_TIME,
    TRANSPORT,
    TYPE,
)
from tcpip_wasm.links.wireguard.peer import Peer, Session, SocketAddress
from tcpip_wasm.links.wireguard.tunnel import Tunnel

_RECORD = abi.RECORD_HEADER_SIZE
_ALIGNMENT = abi.RECORD_HEADER_ALIGNMENT
_length_at = abi.RECORD_HEADER.unpack_from
_put_length = abi.RECORD_HEADER.pack_into

MESSAGES_PER_BATCH: Final = 64
"""UDP_MAX_SEGMENTS of kernels before 6.9."""

BATCH_BYTES: Final = 65_507 - OVERHEAD
"""Of messages: a batch is one datagram for the kernel until it is split."""

_ZEROS: Final = bytes(PADDING)


@dataclass(slots=True)
class Batch:
    """Messages in a row, to be sent.

    Attributes:
        data: the messages; valid until the next batch is made.
        size: bytes of each message but the last, which may be shorter.
        endpoint: where to.
        frames: how many.
        payload: bytes of the packets in them.
    """

    data: memoryview
    size: int
    endpoint: SocketAddress
    frames: int
    payload: int


class Sealer:
    """Encrypts packets of an interface.

    Args:
        tunnel: its peers.
    """

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel
        self._longest = OVERHEAD + tunnel.mtu + PADDING
        self._buffer = memoryview(bytearray(max(BATCH_BYTES, self._longest)))

    def seal(self, records: memoryview, offset: int, now: float) -> tuple[int, Batch | None, int]:
        """Encrypt as many records as one batch takes, and stage those of peers without a session.

        Args:
            records: whole records.
            offset: where the first is.
            now: seconds.

        Returns:
            Where the next record is, the batch if there is something to send, and how many packets went to no peer.
        """
        tunnel, mtu, buffer = self._tunnel, self._tunnel.mtu, self._buffer
        find = tunnel.allowed.find
        end, room = len(records), len(buffer)
        peer: Peer | None = None
        session: Session | None = None
        position = size = frames = payload = lost = number = remote = 0
        while offset < end and frames < MESSAGES_PER_BATCH:
            length: int = _length_at(records, offset)[0]
            start = offset + _RECORD
            stop = start + length
            version = records[start] >> 4 if length else 0
            if version == 4:
                owner = find(bytes(records[start + 16 : start + 20]))
            elif version == 6:
                owner = find(bytes(records[start + 24 : start + 40]))
            else:
                owner = None
            if owner is None:
                lost += 1
                tunnel.counters.not_allowed += 1
                offset = (stop + _ALIGNMENT - 1) & -_ALIGNMENT
                continue
            if owner is not peer:
                if peer is not None:
                    break
                session = owner.sending(now)
                if session is None or owner.endpoint is None:
                    tunnel.stage(owner, records[start:stop], now)
                    offset = (stop + _ALIGNMENT - 1) & -_ALIGNMENT
                    continue
                peer, number, remote = owner, session.sent, session.remote
            padded = (length + PADDING - 1) & -PADDING
            if padded > mtu >= length:
                padded = mtu
            whole = OVERHEAD + padded
            if not frames:
                size = whole
            elif whole > size or position + whole > room:
                break
            assert session is not None
            HEADER.pack_into(buffer, position, TRANSPORT, remote, number)
            session.seal(
                NONCE.pack(number),
                records[start:stop] if padded == length else bytes(records[start:stop]) + _ZEROS[: padded - length],
                None,
                buffer[position + HEADER_BYTES : position + whole],
            )
            number += 1
            frames += 1
            payload += length
            position += whole
            offset = (stop + _ALIGNMENT - 1) & -_ALIGNMENT
            if whole < size:
                break
        if peer is None or session is None:
            return min(offset, end), None, lost
        session.sent = number
        peer.bytes_sent += position
        assert peer.endpoint is not None
        batch = Batch(buffer[:position], size, peer.endpoint, frames, payload)
        tunnel.sent(session, now)
        return min(offset, end), batch, lost


@dataclass(slots=True)
class Opened:
    """What became of messages that arrived.

    Attributes:
        taken: bytes of them that were processed; fewer than all where the packets have no room.
        records: bytes of records in the stack's buffer.
        frames: packets in them.
        payload: their bytes.
        truncated: packets that were longer than the interface takes.
    """

    taken: int
    records: int
    frames: int
    payload: int
    truncated: int


class Opener:
    """Decrypts messages that arrived at an interface's socket.

    Args:
        tunnel: its peers.
    """

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel

    def open(self, data: memoryview, size: int, source: SocketAddress, now: float, room: memoryview) -> Opened:
        """Decrypt messages of one source into records.

        Args:
            data: messages in a row, each of `size` bytes, the last of at most that.
            size: bytes, more than 0.
            source: where they came from.
            now: seconds.
            room: the stack's buffer.
        """
        tunnel = self._tunnel
        sessions, find, counters, mtu = tunnel.sessions, tunnel.allowed.find, tunnel.counters, tunnel.mtu
        end, space = len(data), len(room)
        at = offset = frames = payload = truncated = 0
        known: Session | None = None
        has_data, volume = False, 0
        while at < end:
            stop = min(at + size, end)
            plain = stop - at - OVERHEAD
            if plain < 0 or TYPE.unpack_from(data, at)[0] != TRANSPORT:
                tunnel.receive(bytes(data[at:stop]), source, now)
                at = stop
                continue
            _, index, number = HEADER.unpack_from(data, at)
            session = sessions.get(index)
            if session is not known and known is not None:
                tunnel.received(known, source, now, data=has_data, size=volume)
                known, has_data, volume = None, False, 0
                session = sessions.get(index)  # a session that comes into use ends others
            if session is None or now - session.born >= REJECT_AFTER_TIME or number >= REJECT_AFTER_MESSAGES:
                counters.forged += 1
                at = stop
                continue
            begin = offset + _RECORD
            if begin + plain > space:
                break
            body = data[at + HEADER_BYTES : stop]
            at = stop
            window = session.window
            if number <= window.newest and not window.is_new(number):
                counters.replayed += 1
                continue
            try:
                session.unseal(NONCE.pack(number), body, None, room[begin : begin + plain])
            except InvalidTag:
                counters.forged += 1
                continue
            window.add(number)
            known = session
            volume += OVERHEAD + plain
            if not plain:
                continue  # a keepalive
            has_data = True
            version = room[begin] >> 4
            if version == 4 and plain >= 20:
                length = room[begin + 2] << 8 | room[begin + 3]
                owner = find(bytes(room[begin + 12 : begin + 16]))
            elif version == 6 and plain >= 40:
                length = 40 + (room[begin + 4] << 8 | room[begin + 5])
                owner = find(bytes(room[begin + 8 : begin + 24]))
            else:
                counters.malformed += 1
                continue
            if owner is not session.peer:
                counters.not_allowed += 1
                continue
            if not 20 <= length <= plain:
                counters.malformed += 1
                continue
            if length > mtu:
                truncated += 1
                continue
            _put_length(room, offset, length)
            offset = (begin + length + _ALIGNMENT - 1) & -_ALIGNMENT
            frames += 1
            payload += length
        if known is not None:
            tunnel.received(known, source, now, data=has_data, size=volume)
        return Opened(at, min(offset, space), frames, payload, truncated)
