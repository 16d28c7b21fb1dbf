"""Imports programs of third_party/lwip, which are not part of a package, as modules for their tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

LWIP = Path(__file__).resolve().parents[2] / "third_party" / "lwip"


def load_lwip_program(name: str) -> ModuleType:
    """Return one of the programs of third_party/lwip, by its name without ``.py``."""
    specification = importlib.util.spec_from_file_location(f"lwip_{name}", LWIP / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[f"lwip_{name}"] = module  # dataclasses look up their module by name
    specification.loader.exec_module(module)
    return module
