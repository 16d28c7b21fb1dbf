"""What an adapter says where the library that it is for is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def extra(library: str) -> Iterator[None]:
    """Import a library inside ``with extra("aiohttp"):``, and say which extra it is of.

    Args:
        library: its name, and that of the extra and of the adapter.

    Raises:
        ModuleNotFoundError: it is not installed. What it needs itself and does not find is reported as ever.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        text = f"tcpip_wasm.compat.{library} needs {library}: pip install 'tcpip_wasm[{library}]'"
        raise ModuleNotFoundError(text, name=library) from None
