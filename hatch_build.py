"""Build hooks of the package: the module in the wheel, and the description in its metadata.

`ModuleBuildHook` builds `tcpip_wasm/lwip.wasm` by `wasm/Makefile` if it is missing or stale. `ReadmeHook` makes the
long description from README.md, without the relative links, which do not work on a page of a package index.
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
# Variables by which a calling make would pass its options and job server to the make started here.
CALLING_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")


LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|`[^`]*`)+)\]\((?!https?://|mailto:)([^)\s]+)\)")
"""A relative link in Markdown: its text and its target."""

REPOSITORY = ("repository", "source", "homepage")
"""Names of the project's URLs, in lower case, that may be its repository; the first one that exists is used."""


class ReadmeHook(MetadataHookInterface):
    """Adds the description; hatchling runs it when it reads the project's metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add the description."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        urls = {name.lower(): url for name, url in metadata.get("urls", {}).items()}
        base = next((urls[name] for name in REPOSITORY if name in urls), None)
        metadata["readme"] = {"content-type": "text/markdown", "text": describe(text, base)}


def describe(readme: str, base: str | None) -> str:
    """Return README.md as the description of a package.

    Comments are removed. Links to files become absolute. Without a URL of the repository, links are replaced by their
    text; so are links within the page, because a package index does not keep their anchors.

    Args:
        readme: the text of README.md.
        base: URL of the repository, such as ``https://example.org/owner/name``; or None.
    """

    def replaced(found: re.Match[str]) -> str:
        text, target = found.groups()
        return text if base is None or target.startswith("#") else f"[{text}]({base.rstrip('/')}/blob/HEAD/{target})"

    return LINK.sub(replaced, re.sub(r"^<!--.*?-->\n", "", readme, flags=re.MULTILINE | re.DOTALL))


class ModuleBuildHook(BuildHookInterface[Any]):
    """Builds the module; hatchling runs it before it builds a wheel, also an editable one."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the module and add it to the wheel.

        Args:
            version: hatchling's kind of build, such as ``standard`` or ``editable``.
            build_data: hatchling's description of the wheel, which is changed.
        """
        build_module(Path(self.root))
        build_data["artifacts"].append(f"/{MODULE}")


def build_module(root: Path) -> None:
    """Build the module if it is missing or stale, with the toolchain that is installed for the running Python.

    Raises:
        RuntimeError: the module is missing and make is not installed, or the build failed.
    """
    make = shutil.which("make")
    if make is None:
        if (root / MODULE).is_file():
            return
        raise RuntimeError(f"{MODULE} is not built, and building it needs GNU make, which is not installed")
    environment = {key: value for key, value in os.environ.items() if key not in CALLING_MAKE}
    command = [make, "--no-print-directory", "-C", str(root / "wasm"), f"PYTHON={sys.executable}"]
    run = subprocess.run(command, env=environment)
    if run.returncode:
        raise RuntimeError(f"building {MODULE} failed; see the output above")
