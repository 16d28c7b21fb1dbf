"""Files to transfer: bytes that differ at every offset, the same in each run, and their digest."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Payload", "make_payload"]

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Payload:
    """A file's contents and their SHA-256 in hexadecimal."""

    data: bytes
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Payload:
        """The content of a file."""
        data = path.read_bytes()
        return cls(data, hashlib.sha256(data).hexdigest())

    def write_to(self, folder: Path, name: str = "payload") -> Path:
        """Write the file into a folder; returns its path."""
        path = folder / name
        path.write_bytes(self.data)
        return path


@cache
def make_payload(megabytes: int) -> Payload:
    """Create a file of `megabytes` million bytes.

    No block of it repeats, so that lost or swapped blocks change the digest.
    """
    source = random.Random(megabytes)
    data = b"".join(source.randbytes(MEGABYTE) for _ in range(megabytes))
    return Payload(data, hashlib.sha256(data).hexdigest())
