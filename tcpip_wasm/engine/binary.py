"""``lwip.wasm`` as bytes, for the engines that compile it. Knows neither an engine nor what the module does."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tcpip_wasm.errors import ModuleMismatchError

MODULE_PATH: Final = Path(__file__).resolve().parents[1] / "lwip.wasm"


def read_binary() -> bytes:
    """Return the package's module.

    Raises:
        ModuleMismatchError: it has not been built.
    """
    try:
        return MODULE_PATH.read_bytes()
    except FileNotFoundError:
        raise ModuleMismatchError(f"{MODULE_PATH.name} has not been built; in a checkout, run `make wasm`") from None
