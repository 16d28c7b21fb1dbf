"""Hooks of the package's build: the module in the wheel, and the description in its metadata.

`ModuleBuildHook` builds `tcpip_wasm/lwip.wasm` where it is missing or stale; `wasm/Makefile` knows how. `ReadmeHook`
makes the long description of README.md, of which the relative links lead nowhere on a page of a package index.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

MODULE = "tcpip_wasm/lwip.wasm"
# A make that calls this build must not lend its options and job server to ours.
CALLING_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")


LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|`[^`]*`)+)\]\((?!https?://|mailto:)([^)\s]+)\)")
"""A link of Markdown that is not absolute: its text and its target."""

REPOSITORY = ("repository", "source", "homepage")
"""Names of the project's URLs, in small letters, under which its files may be; the first that is there is taken."""


class ReadmeHook(MetadataHookInterface):
    """Runs when the project's metadata is read."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the description."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        urls = {name.lower(): url for name, url in metadata.get("urls", {}).items()}
        base = next((urls[name] for name in REPOSITORY if name in urls), None)
        metadata["readme"] = {"content-type": "text/markdown", "text": describe(text, base)}


def describe(readme: str, base: str | None) -> str:
    """Return README.md as the description of a package.

    Comments are left out. Links to files become absolute; where the project has no URL of its own, and for links within
    the page, of which an index does not keep the anchors, their text alone is left.

    Args:
        readme: its text.
        base: URL of the repository, such as ``https://example.org/owner/name``; or None.
    """

    def replaced(found: re.Match[str]) -> str:
        text, target = found.groups()
        return text if base is None or target.startswith("#") else f"[{text}]({base.rstrip('/')}/blob/HEAD/{target})"

    return LINK.sub(replaced, re.sub(r"^<!--.*?-->\n", "", readme, flags=re.MULTILINE | re.DOTALL))


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
