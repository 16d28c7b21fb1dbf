"""Curve25519 keys as WireGuard writes them: 32 bytes, as text in base64.

Owns the texts of keys and the one place that makes them. Must not know messages.
"""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from binascii import Error
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

KEY_BYTES = 32


def new_private_key(random: Callable[[int], bytes] | None = None) -> bytes:
    """Return a private key.

    Args:
        random: returns so many unpredictable bytes; None takes them from the operating system.
    """
    scalar = bytearray((random or os.urandom)(KEY_BYTES))
    scalar[0] &= 248  # RFC 7748 section 5; `wg genkey` writes keys in this form, too
    scalar[31] = scalar[31] & 127 | 64
    return bytes(scalar)


def public_key(private: bytes) -> bytes:
    """Return the public key of a private one."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def exchange(private: bytes, public: bytes) -> bytes:
    """Return the secret that two keys share (RFC 7748).

    Raises:
        ValueError: the public key is a point of low order.
    """
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))


def parse_key(argument: str, key: str | bytes) -> bytes:
    """Return the 32 bytes of a key that a caller gave as bytes or in base64.

    Raises:
        TypeError: it is neither text nor bytes.
        ValueError: it is none; the error does not repeat it.
    """
    if isinstance(key, bytes):
        raw = key
    elif isinstance(key, str):
        try:
            raw = b64decode(key.strip(), validate=True)
        except (Error, ValueError):
            raise ValueError(f"{argument}: a key is 44 characters of base64") from None
    else:
        raise TypeError(f"{argument}: a key is text in base64 or bytes, not {type(key).__name__}")
    if len(raw) != KEY_BYTES:
        raise ValueError(f"{argument}: a key has {KEY_BYTES} bytes, not {len(raw)}")
    return raw


def key_text(key: bytes) -> str:
    """Return a key in base64."""
    return b64encode(key).decode()
