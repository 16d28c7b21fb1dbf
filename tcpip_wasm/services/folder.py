"""A folder of files that hosts of a network may read, and nothing outside of it: `Folder`.

Owns the confinement. A path from the wire is a list of names; ``..``, separators and NUL are no names. Symbolic links
are followed as long as they stay inside: the path they lead to is opened name by name without following links, so that
a link that is changed meanwhile leads nowhere. It knows no protocol.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_FLAGS: Final = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0)  # a named pipe must not block the open
_BY_NAMES: Final = os.open in os.supports_dir_fd

MAX_NAMES: Final = 64
"""Names in a path."""

MAX_NAME: Final = 255
"""Bytes of a name."""


class Folder:
    """A folder.

    Args:
        path: where it is.

    Attributes:
        root: the folder, with all links resolved.

    Raises:
        NotADirectoryError: it is no folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.root: Path = Path(path).resolve()
        if not self.root.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "not a folder", str(path))

    def open(self, names: Sequence[bytes]) -> int:
        """Open a regular file or a folder for reading, and return its descriptor, which the caller closes.

        Args:
            names: from the folder on, as the wire has them.

        Raises:
            FileNotFoundError: there is no such file inside, or it is neither a regular file nor a folder.
            PermissionError: the operating system refuses it.
        """
        real = self._resolve(names)
        descriptor = self._walk(real, _FLAGS | _NO_WAIT)
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            os.close(descriptor)
            raise _missing(names)
        return descriptor

    def create(self, names: Sequence[bytes]) -> int:
        """Create a new file for writing, and return its descriptor, which the caller closes.

        Raises:
            FileExistsError: there is one of this name.
            FileNotFoundError: there is no such folder inside.
            PermissionError: the operating system refuses it.
        """
        if not names:
            raise _missing(names)
        folder = self._resolve(names[:-1])
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | (_FLAGS & ~os.O_RDONLY)
        return self._walk((*folder, _name(names[-1], names)), flags)

    def remove(self, names: Sequence[bytes]) -> None:
        """Remove a file that `create` created and that was not written to its end.

        Raises:
            OSError: it cannot be removed.
        """
        folder = self._resolve(names[:-1])
        os.unlink(self.root.joinpath(*folder, _name(names[-1], names)))

    def _resolve(self, names: Sequence[bytes]) -> tuple[str, ...]:
        """Return the names of the file that a path leads to, without links; it is inside, if it exists."""
        if len(names) > MAX_NAMES:
            raise _missing(names)
        path = os.path.join(self.root, *[_name(name, names) for name in names])
        try:
            return Path(os.path.realpath(path, strict=True)).relative_to(self.root).parts
        except FileNotFoundError:
            raise _missing(names) from None
        except ValueError:  # a link to the outside
            raise _missing(names) from None
        except PermissionError:
            raise
        except OSError:  # a loop of links, a file where a folder should be
            raise _missing(names) from None

    def _walk(self, names: Sequence[str], flags: int) -> int:
        if not _BY_NAMES:  # Windows
            return os.open(self.root.joinpath(*names), flags, 0o644)
        descriptor = os.open(self.root, _FLAGS | os.O_DIRECTORY)
        for at, name in enumerate(names):
            is_last = at == len(names) - 1
            try:
                following = os.open(
                    name, (flags if is_last else _FLAGS | os.O_DIRECTORY) | _NO_LINK, 0o644, dir_fd=descriptor
                )
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
                    raise _missing([os.fsencode(name) for name in names]) from None
                raise
            finally:
                os.close(descriptor)
            descriptor = following
        return descriptor


def _name(name: bytes, names: Sequence[bytes]) -> str:
    """Return a name as the operating system has it, if it is one."""
    separators = {b"/", os.fsencode(os.sep), os.fsencode(os.altsep or os.sep)}
    if name in (b"", b".", b"..") or len(name) > MAX_NAME or b"\0" in name or any(one in name for one in separators):
        raise _missing(names)
    if os.name == "nt" and b":" in name:  # a drive, or a stream of a file
        raise _missing(names)
    return os.fsdecode(name)


def _missing(names: Sequence[bytes]) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "no such file", b"/".join(names).decode("utf-8", "replace")[:200])
