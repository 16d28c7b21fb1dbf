"""Frames in datagrams that are encrypted and authenticated with a key that both ends were given.

Owns the handshake, the keys, the numbers of datagrams and the window in which a number is new: all of the protocol
without a socket. `encrypted_link` has the socket. The format is specified in docs/reference/encrypted-datagrams.md,
whose sections are cited here; the reasons are there, too.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from math import inf
from struct import Struct
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tcpip_wasm.links.wireguard.replay import ReplayWindow

REQUEST, ANSWER, CONFIRMATION, FRAME = range(1, 5)

ID_BYTES: Final = 16
TAG_BYTES: Final = 16
HEADER_BYTES: Final = 16
OVERHEAD: Final = HEADER_BYTES + TAG_BYTES
"""Bytes that a datagram has beside its frame."""
HELLO_BYTES: Final = 4 + 2 * ID_BYTES + TAG_BYTES

LAST_NUMBER: Final = 2**60
"""Frames of one session; then another one is agreed on."""

REQUEST_INTERVAL: Final = 1.0
"""Seconds between two requests at least."""

SILENCE: Final = 5.0
"""Seconds without a frame of the peer after which a datagram that is not authentic, or another frame to the peer, makes
this end ask for a session."""

_HELLO: Final = Struct("<I16s16s16s")
_HEADER: Final = Struct("<I4sQ")
_NONCE: Final = Struct("<4xQ")
_TYPE: Final = Struct("<I")
_NO_ID: Final = bytes(ID_BYTES)
_HELLO_INFO: Final = b"tcpip-wasm encrypted datagrams 1 hello"
_FRAME_INFO: Final = b"tcpip-wasm encrypted datagrams 1 frame"

Address = Any
"""Where datagrams come from and go to: what a socket takes; compared, and never looked into."""


def derive_key(key: bytes, salt: bytes, info: bytes) -> bytes:
    """Return 32 bytes by HKDF with SHA-256 (RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(key)


class _Session:
    """Keys, numbers and window between two identifiers, of which one at least was made for this session."""

    __slots__ = ("own", "peer", "seal", "sent", "unseal", "window")

    def __init__(self, key: bytes, own: bytes, peer: bytes) -> None:
        self.own = own
        self.peer = peer
        self.seal = ChaCha20Poly1305(derive_key(key, own + peer, _FRAME_INFO)).encrypt_into
        self.unseal = ChaCha20Poly1305(derive_key(key, peer + own, _FRAME_INFO)).decrypt_into
        self.sent = 0
        self.window = ReplayWindow()


class EncryptedChannel:
    """One end of the link, without its socket.

    Args:
        key: 32 bytes, secret, the same at both ends.
        max_frame: the longest frame in bytes.
        send: sends a datagram of the handshake; it must not raise.
        remote: where the peer is; None where it is learned from what the peer sends.
        random: returns so many unpredictable bytes.

    Attributes:
        remote: where datagrams go: where the latest one came from that only the peer can have sent just now.
        sessions: that were agreed on so far.
        unauthentic: datagrams that were dropped because they have no tag of this key, or of no session.
        of_another_key: messages of the handshake, in `unauthentic`, whose tag is of another key.
        replayed: authentic ones that were dropped because they had arrived before, or are older than the window.
    """

    def __init__(
        self,
        key: bytes,
        *,
        max_frame: int,
        send: Callable[[bytes, Address], None],
        remote: Address | None = None,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.remote = remote
        self.sessions: int = 0
        self.unauthentic: int = 0
        self.of_another_key: int = 0
        self.replayed: int = 0
        self._key = key
        self._hello_key = derive_key(key, b"", _HELLO_INFO)
        self._send = send
        self._given = remote
        self._random = random
        self._next = random(ID_BYTES)  # of this end in the next session
        self._current: _Session | None = None
        self._previous: _Session | None = None  # for frames that were under way when another session began
        self._requested = self._received = -inf
        self._unanswered = inf  # when the first frame was sent to which none has come back
        self._sealed = memoryview(bytearray(OVERHEAD + max_frame))
        self._opened = memoryview(bytearray(65536))

    @property
    def ready(self) -> bool:
        """Whether frames can be sent."""
        return self._current is not None and self._current.sent < LAST_NUMBER

    def request(self, now: float) -> None:
        """Ask the peer for a session, if its address is known and this end did not ask just before.

        Also where the peer was said to be: it may have moved back, or never have been elsewhere.

        Args:
            now: seconds.
        """
        if self.remote is not None and now - self._requested >= REQUEST_INTERVAL:
            self._requested = now
            data = self._hello(REQUEST, self._next, _NO_ID)
            self._send(data, self.remote)
            if self._given is not None and self._given != self.remote:
                self._send(data, self._given)

    def seal(self, frame: memoryview, now: float) -> memoryview:
        """Return the datagram for a frame, valid until the next one is made; `ready` must be true.

        Args:
            frame: the frame.
            now: seconds.
        """
        session = self._current
        assert session is not None
        if self._unanswered > now:
            self._unanswered = now
        elif now - self._unanswered >= SILENCE:
            self.request(now)  # the peer may have begun anew, and not know where this end is
        end = OVERHEAD + len(frame)
        sealed, number = self._sealed, session.sent
        session.sent = number + 1
        _HEADER.pack_into(sealed, 0, FRAME, session.peer[:4], number)
        session.seal(_NONCE.pack(number), frame, sealed[:HEADER_BYTES], sealed[HEADER_BYTES:end])
        return sealed[:end]

    def receive(self, data: memoryview, source: Address, room: memoryview, now: float) -> int:
        """Take a datagram from anywhere.

        Args:
            data: the datagram.
            source: where it came from.
            room: for the frame.
            now: seconds.

        Returns:
            Bytes of the frame in `room`, 0 where there is none, more than `room` has where the frame is too long.
        """
        if len(data) >= OVERHEAD and _TYPE.unpack_from(data)[0] == FRAME:
            length = self._open(data, source, room, now)
        else:
            length = 0 if len(data) == HELLO_BYTES and self._take_hello(bytes(data), source, now) else -1
        if length >= 0:
            return length
        self.unauthentic += 1
        # One of the two ends may have begun anew; in the latter case the peer has, and its confirmation was lost.
        if now - self._received >= SILENCE or data[4:8] == self._next[:4]:
            self.request(now)
        return 0

    # --- Frames -------------------------------------------------------------------------------------------------------

    def _open(self, data: memoryview, source: Address, room: memoryview, now: float) -> int:
        """Decrypt a frame into `room` and return its length, or -1 where it is not authentic (section 4)."""
        _, receiver, number = _HEADER.unpack_from(data)
        session = self._current
        if session is None or session.own[:4] != receiver:
            session = self._previous
            if session is None or session.own[:4] != receiver:
                return -1
        length = len(data) - OVERHEAD
        fits = length <= len(room)
        into = room[:length] if fits else self._opened[:length]
        window = session.window
        try:
            session.unseal(_NONCE.pack(number), data[HEADER_BYTES:], data[:HEADER_BYTES], into)
        except InvalidTag:
            return -1
        if not window.add(number):
            self.replayed += 1
            return 0
        if session is self._current:
            self._received, self._unanswered = now, inf
            if number == window.newest:
                self.remote = source
        return length if fits else len(room) + 1

    # --- The handshake ------------------------------------------------------------------------------------------------

    def _hello(self, kind: int, own: bytes, peer: bytes) -> bytes:
        """Return a message of the handshake (section 3)."""
        text = _HELLO.pack(kind, own, peer, b"")[:-TAG_BYTES]
        return text + hmac.digest(self._hello_key, text, "sha256")[:TAG_BYTES]

    def _take_hello(self, data: bytes, source: Address, now: float) -> bool:
        """Take a message of the handshake; return whether it is authentic."""
        kind, peer, own, tag = _HELLO.unpack(data)
        expected = hmac.digest(self._hello_key, data[:-TAG_BYTES], "sha256")[:TAG_BYTES]
        if not REQUEST <= kind <= CONFIRMATION:
            return False
        if not hmac.compare_digest(tag, expected):
            self.of_another_key += 1
            return False
        current = self._current
        is_peer = current is not None and peer == current.peer
        if kind == REQUEST:
            # It may be an old one: nothing changes by it, and its sender has to show that it has the answer.
            if peer != self._next and own == _NO_ID:
                self._send(self._hello(ANSWER, current.own if current and is_peer else self._next, peer), source)
            return True
        if own == self._next and peer != own:
            self._begin_session(peer, source, now)
        elif current is None or not is_peer or own != current.own:
            return False  # of another time
        if kind == ANSWER:
            self._send(self._hello(CONFIRMATION, own, peer), source)
        return True

    def _begin_session(self, peer: bytes, source: Address, now: float) -> None:
        """Begin a session: the peer has the identifier that this end made for it, so that it is there now."""
        self._previous, self._current = self._current, _Session(self._key, self._next, peer)
        self._next = self._random(ID_BYTES)
        self.sessions += 1
        self.remote = source
        self._received, self._unanswered = now, inf
