"""The handshake: Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s (protocol paper, section 5.4).

Owns the computations of the four steps (make and read an initiation, make and read a response) and their key
derivation. Keeps nothing but what a caller holds in an `Initiated` or `Received`. Must not know peers, time or sockets.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2s
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tcpip_wasm.links.wireguard.keys import exchange, new_private_key, public_key
from tcpip_wasm.links.wireguard.messages import INITIATION, INITIATION_LAYOUT, RESPONSE, RESPONSE_LAYOUT


def digest(*parts: bytes) -> bytes:
    """Return the hash of the parts in a row."""
    return blake2s(b"".join(parts)).digest()


_CHAINING: Final = digest(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s")
_HASH: Final = digest(_CHAINING, b"WireGuard v1 zx2c4 Jason@zx2c4.com")
_NONCE: Final = bytes(12)
"""Each key of a handshake encrypts one text."""


class HandshakeError(Exception):
    """A message is none of this handshake: forged, damaged, of another peer or of another time."""


@dataclass(slots=True)
class Initiated:
    """What the side that sent an initiation keeps until the response."""

    ephemeral: bytes
    chaining: bytes
    hash: bytes


@dataclass(slots=True)
class Received:
    """What the side that read an initiation keeps until it responds."""

    sender: int
    ephemeral: bytes
    static: bytes
    timestamp: bytes
    chaining: bytes
    hash: bytes


def derive(chaining: bytes, data: bytes, count: int) -> tuple[bytes, ...]:
    """Return so many keys: KDF1, KDF2 and KDF3 of the paper, which are HKDF (RFC 5869) with BLAKE2s."""
    secret = hmac.digest(chaining, data, blake2s)
    keys: list[bytes] = []
    last = b""
    for number in range(1, count + 1):
        last = hmac.digest(secret, last + bytes([number]), blake2s)
        keys.append(last)
    return tuple(keys)


def make_initiation(
    sender: int,
    static: bytes,
    remote: bytes,
    shared: bytes,
    timestamp: bytes,
    random: Callable[[int], bytes] | None = None,
) -> tuple[bytes, Initiated]:
    """Return an initiation without its MACs, and what to keep for the response.

    Args:
        sender: the index under which the response comes.
        static: the own private key.
        remote: the peer's public key.
        shared: what these two share.
        timestamp: TAI64N, later than that of each initiation before.
        random: as for `new_private_key`.

    Raises:
        ValueError: the peer's key is of low order.
    """
    ephemeral = new_private_key(random)
    public = public_key(ephemeral)
    hashed = digest(digest(_HASH, remote), public)
    (chaining,) = derive(_CHAINING, public, 1)
    chaining, key = derive(chaining, exchange(ephemeral, remote), 2)
    own = ChaCha20Poly1305(key).encrypt(_NONCE, public_key(static), hashed)
    hashed = digest(hashed, own)
    chaining, key = derive(chaining, shared, 2)
    stamped = ChaCha20Poly1305(key).encrypt(_NONCE, timestamp, hashed)
    hashed = digest(hashed, stamped)
    message = INITIATION_LAYOUT.pack(INITIATION, sender, public, own, stamped)
    return message, Initiated(ephemeral, chaining, hashed)


def read_initiation(
    message: bytes, static: bytes, public: bytes, shared_with: Callable[[bytes], bytes | None]
) -> Received:
    """Return what an initiation says.

    Args:
        message: of the right length; its MACs were verified.
        static, public: the own keys.
        shared_with: returns the secret that is shared with a peer's static key, or None where there is no such peer.

    Raises:
        HandshakeError: it is forged, or from no peer.
    """
    _, sender, ephemeral, own, stamped = INITIATION_LAYOUT.unpack_from(message)
    hashed = digest(digest(_HASH, public), ephemeral)
    (chaining,) = derive(_CHAINING, ephemeral, 1)
    try:
        chaining, key = derive(chaining, exchange(static, ephemeral), 2)
        remote = ChaCha20Poly1305(key).decrypt(_NONCE, own, hashed)
        hashed = digest(hashed, own)
        shared = shared_with(remote)
        if shared is None:
            raise HandshakeError("an initiation from a key that belongs to no peer")
        chaining, key = derive(chaining, shared, 2)
        timestamp = ChaCha20Poly1305(key).decrypt(_NONCE, stamped, hashed)
    except (InvalidTag, ValueError):
        raise HandshakeError("an initiation that is forged or damaged") from None
    return Received(sender, ephemeral, remote, timestamp, chaining, digest(hashed, stamped))


def make_response(
    sender: int, received: Received, preshared: bytes, random: Callable[[int], bytes] | None = None
) -> tuple[bytes, bytes, bytes]:
    """Return a response without its MACs, the key to send with and the key to receive with.

    Raises:
        HandshakeError: the initiation has a key of low order.
    """
    ephemeral = new_private_key(random)
    public = public_key(ephemeral)
    hashed = digest(received.hash, public)
    (chaining,) = derive(received.chaining, public, 1)
    try:
        (chaining,) = derive(chaining, exchange(ephemeral, received.ephemeral), 1)
        (chaining,) = derive(chaining, exchange(ephemeral, received.static), 1)
    except ValueError:
        raise HandshakeError("an initiation with a key of low order") from None
    chaining, temporary, key = derive(chaining, preshared, 3)
    hashed = digest(hashed, temporary)
    empty = ChaCha20Poly1305(key).encrypt(_NONCE, b"", hashed)
    receiving, sending = derive(chaining, b"", 2)
    return RESPONSE_LAYOUT.pack(RESPONSE, sender, received.sender, public, empty), sending, receiving


def read_response(message: bytes, static: bytes, initiated: Initiated, preshared: bytes) -> tuple[int, bytes, bytes]:
    """Return the peer's index, the key to send with and the key to receive with.

    Raises:
        HandshakeError: it is forged, or for another initiation or preshared key.
    """
    _, sender, _, ephemeral, empty = RESPONSE_LAYOUT.unpack_from(message)
    hashed = digest(initiated.hash, ephemeral)
    (chaining,) = derive(initiated.chaining, ephemeral, 1)
    try:
        (chaining,) = derive(chaining, exchange(initiated.ephemeral, ephemeral), 1)
        (chaining,) = derive(chaining, exchange(static, ephemeral), 1)
        chaining, temporary, key = derive(chaining, preshared, 3)
        ChaCha20Poly1305(key).decrypt(_NONCE, empty, digest(hashed, temporary))
    except (InvalidTag, ValueError):
        raise HandshakeError("a response that is forged, damaged, or made with another preshared key") from None
    sending, receiving = derive(chaining, b"", 2)
    return sender, sending, receiving
