"""The folder with captures of failed tests, of bounded size."""

from __future__ import annotations

from pathlib import Path
from typing import Final

MOST_FILES: Final = 50
MOST_BYTES: Final = 2**28

PATTERN: Final = "*.pcapng"


def prune(folder: Path, keep: Path, *, files: int = MOST_FILES, size: int = MOST_BYTES) -> None:
    """Delete the oldest captures of a folder, until the rest is within the limits.

    Args:
        folder: the folder.
        keep: a file that is not deleted.
        files, size: the most files that stay, and their most bytes in total.
    """
    found = []
    for path in folder.glob(PATTERN):
        try:
            status = path.stat()
        except OSError:  # another process has deleted it
            continue
        found.append((path == keep, status.st_mtime_ns, path, status.st_size))
    total = 0
    for count, (is_kept, _, path, length) in enumerate(sorted(found, reverse=True), 1):
        total += length
        if not is_kept and (count > files or total > size):
            path.unlink(missing_ok=True)
