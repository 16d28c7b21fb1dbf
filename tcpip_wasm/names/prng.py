"""Numbers that cannot be predicted without the seed, and that are the same for the same seed."""

from __future__ import annotations

import hashlib


class Unpredictable:
    """A generator: BLAKE2b of a counter, keyed by the seed. Seeing numbers does not help to guess the next.

    Args:
        seed: bytes of which at least 16 are unknown to others.
        purpose: keeps the numbers of different uses of one seed apart; at most 16 bytes.
    """

    def __init__(self, seed: bytes, purpose: bytes) -> None:
        self._key = hashlib.blake2b(seed, digest_size=32, person=purpose).digest()
        self._count = 0

    def below(self, limit: int) -> int:
        """Return a number from 0 to ``limit - 1``, for limits far below 2**64."""
        self._count += 1
        digest = hashlib.blake2b(self._count.to_bytes(8, "little"), digest_size=8, key=self._key).digest()
        return int.from_bytes(digest, "little") % limit
