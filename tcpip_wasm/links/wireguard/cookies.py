"""The MACs of handshake messages, and cookies under load (protocol paper, section 5.4.7 and 5.3).

Owns the two MACs, the secret of cookies and its life, and XChaCha20-Poly1305, which only cookies use. Must not know
handshakes: a message is bytes whose last 32 are the MACs.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from hashlib import blake2s
from math import inf

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from tcpip_wasm.links.wireguard.messages import COOKIE, COOKIE_LAYOUT, COOKIE_LIFETIME, MAC_BYTES
from tcpip_wasm.links.wireguard.noise import digest

_CONSTANTS = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574)  # RFC 8439 section 2.3
_WORD = 2**32
LATENCY = 5.0
"""Seconds. A cookie that is about to end might have ended when it arrives."""


def mac(key: bytes, data: bytes) -> bytes:
    """Return the MAC of the data: keyed BLAKE2s with 16 bytes."""
    return blake2s(data, key=key, digest_size=MAC_BYTES).digest()


def hchacha20(key: bytes, nonce: bytes) -> bytes:
    """Return the key that XChaCha20 derives (draft-irtf-cfrg-xchacha-03, section 2.2), from a block of ChaCha20.

    A block is the state after the rounds plus the state before, and what is wanted are the words after the rounds
    whose state before is public: the constants and the nonce.
    """
    block = Cipher(ChaCha20(key, nonce), mode=None).encryptor().update(bytes(64))
    words = [int.from_bytes(block[at : at + 4], "little") for at in range(0, 64, 4)]
    last = [int.from_bytes(nonce[at : at + 4], "little") for at in range(0, 16, 4)]
    wanted = zip((*words[:4], *words[12:]), (*_CONSTANTS, *last), strict=True)
    return b"".join(((word - before) % _WORD).to_bytes(4, "little") for word, before in wanted)


def _extended(key: bytes, nonce: bytes) -> tuple[ChaCha20Poly1305, bytes]:
    return ChaCha20Poly1305(hchacha20(key, nonce[:16])), bytes(4) + nonce[16:]


def encrypt_extended(key: bytes, nonce: bytes, data: bytes, associated: bytes) -> bytes:
    """Encrypt by XChaCha20-Poly1305."""
    cipher, rest = _extended(key, nonce)
    return cipher.encrypt(rest, data, associated)


def decrypt_extended(key: bytes, nonce: bytes, data: bytes, associated: bytes) -> bytes:
    """Decrypt by XChaCha20-Poly1305. Raises `InvalidTag`."""
    cipher, rest = _extended(key, nonce)
    return cipher.decrypt(rest, data, associated)


class CookieChecker:
    """Verifies the MACs of messages to the own public key, and makes cookies for their senders.

    Args:
        public: the own public key.
        random: returns so many unpredictable bytes.
    """

    def __init__(self, public: bytes, random: Callable[[int], bytes]) -> None:
        self._mac_key = digest(b"mac1----", public)
        self._cookie_key = digest(b"cookie--", public)
        self._random = random
        self._secret = b""
        self._born = -inf

    def has_mac1(self, message: bytes) -> bool:
        """Whether the sender of a message knows the own public key."""
        return hmac.compare_digest(mac(self._mac_key, message[:-32]), message[-32:-16])

    def has_mac2(self, message: bytes, source: bytes, now: float) -> bool:
        """Whether a message has a cookie that was sent to its source; one of the time of an older secret does not
        count."""
        if now - self._born >= COOKIE_LIFETIME:
            return False
        return hmac.compare_digest(mac(mac(self._secret, source), message[:-16]), message[-16:])

    def make_reply(self, message: bytes, receiver: int, source: bytes, now: float) -> bytes:
        """Return a cookie for the source of a message.

        Args:
            message: its mac1 was verified.
            receiver: the sender's index.
            source: address and port, as bytes.
            now: seconds.
        """
        if now - self._born >= COOKIE_LIFETIME:
            self._secret, self._born = self._random(32), now
        nonce = self._random(24)
        cookie = encrypt_extended(self._cookie_key, nonce, mac(self._secret, source), message[-32:-16])
        return COOKIE_LAYOUT.pack(COOKIE, receiver, nonce, cookie)


class CookieKeeper:
    """Adds the MACs to messages to one peer, with the cookie that the peer has sent.

    Args:
        remote: the peer's public key.
    """

    def __init__(self, remote: bytes) -> None:
        self._mac_key = digest(b"mac1----", remote)
        self._cookie_key = digest(b"cookie--", remote)
        self._cookie = b""
        self._since = -inf
        self._last_mac1 = b""

    def sign(self, message: bytes, now: float) -> bytes:
        """Return a message with its MACs."""
        self._last_mac1 = mac(self._mac_key, message)
        message += self._last_mac1
        if self._cookie and now - self._since < COOKIE_LIFETIME - LATENCY:
            return message + mac(self._cookie, message)
        return message + bytes(MAC_BYTES)

    def receive(self, message: bytes, now: float) -> bool:
        """Keep the cookie of a reply to the last message, and return whether there is one."""
        if not self._last_mac1:
            return False
        _, _, nonce, encrypted = COOKIE_LAYOUT.unpack(message)
        try:
            self._cookie = decrypt_extended(self._cookie_key, nonce, encrypted, self._last_mac1)
        except InvalidTag:
            return False
        self._since, self._last_mac1 = now, b""  # one cookie a message
        return True

    def forget(self) -> None:
        """Keep no cookie."""
        self._cookie, self._last_mac1, self._since = b"", b"", -inf
