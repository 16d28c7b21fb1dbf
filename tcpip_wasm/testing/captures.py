"""The folder with captures of failed tests: it stays small by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Final

MOST_FILES: Final = 50
MOST_BYTES: Final = 2**28

PATTERN: Final = "*.pcapng"


def prune(folder: Path, keep: Path, *, files: int = MOST_FILES, size: int = MOST_BYTES) -> None:
    """Delete the oldest captures of a folder until the others are few and small enough.

    Args:
        folder: where they are.
        keep: the one that stays in any case.
        files, size: how many may stay, and of how many bytes in all.
    """
    found = []
    for path in folder.glob(PATTERN):
        try:
            status = path.stat()
        except OSError:  # another process does the same
            continue
        found.append((path == keep, status.st_mtime_ns, path, status.st_size))
    total = 0
    for count, (is_kept, _, path, length) in enumerate(sorted(found, reverse=True), 1):
        total += length
        if not is_kept and (count > files or total > size):
            path.unlink(missing_ok=True)
