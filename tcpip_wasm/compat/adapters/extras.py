"""The error of an adapter whose library is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def extra(library: str) -> Iterator[None]:
    """Import a library inside ``with extra("aiohttp"):``; where it is missing, the error names the extra to install.

    Args:
        library: its name, and that of the extra and of the adapter.

    Raises:
        ModuleNotFoundError: it is not installed. An error for a dependency of the library passes unchanged.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        text = f"tcpip_wasm.compat.{library} needs {library}: pip install 'tcpip_wasm[{library}]'"
        raise ModuleNotFoundError(text, name=library) from None
