"""Build hook of the wheel: builds `tcpip_wasm/lwip.wasm` where it is missing or stale, and puts it into the
wheel.

Owns nothing but the call: `wasm/Makefile` knows how the module is built and whether anything has to be done.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODULE = "tcpip_wasm/lwip.wasm"
# A make that calls this build must not lend its options and job server to ours.
CALLING_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")


class ModuleBuildHook(BuildHookInterface[Any]):
    """Runs before a wheel, an editable one too, is put together."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the module and name it as part of the wheel; ``version`` is hatchling's kind of build."""
        build_module(Path(self.root))
        build_data["artifacts"].append(f"/{MODULE}")


def build_module(root: Path) -> None:
    """Bring the module up to date, with the toolchain of the Python that runs this.

    Raises:
        RuntimeError: there is no module and no make, or the build failed; its output says why.
    """
    make = shutil.which("make")
    if make is None:
        if (root / MODULE).is_file():
            return
        raise RuntimeError(f"{MODULE} is not built, and building it takes GNU make, which is not installed")
    environment = {key: value for key, value in os.environ.items() if key not in CALLING_MAKE}
    command = [make, "--no-print-directory", "-C", str(root / "wasm"), f"PYTHON={sys.executable}"]
    run = subprocess.run(command, env=environment)
    if run.returncode:
        raise RuntimeError(f"building {MODULE} failed; the lines above say why")
