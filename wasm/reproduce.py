"""Builds the module twice, in folders of different names and with empty compiler caches, and compares the
bytes.

Owns the copies; must not know how a module is built. Takes the sources as they stand, committed or not, and
the toolchain of the Python that runs it. Exits with 1 when the two modules differ, from each other or from
golden/.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Of unequal length: a path in the module would move all bytes after it.
FOLDERS = ("one", "another-place-with-a-longer-name")
CALLING_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES")


def build(folder: Path) -> bytes:
    """Build in a copy below `folder` and return the module; raises CalledProcessError if that fails."""
    copy = folder / "checkout"
    shutil.copytree(ROOT / "wasm", copy / "wasm", ignore=shutil.ignore_patterns("build", "__pycache__"))
    # With the fetched sources: only the build is compared.
    shutil.copytree(ROOT / "third_party", copy / "third_party", copy_function=shutil.copy2)
    environment = {key: value for key, value in os.environ.items() if key not in CALLING_MAKE}
    environment["ZIG_GLOBAL_CACHE_DIR"] = str(folder / "cache")
    environment["ZIG_LOCAL_CACHE_DIR"] = str(folder / "cache")
    command = ["make", "-s", "-C", str(copy / "wasm"), "check", f"PYTHON={sys.executable}"]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return (copy / "tcpip_wasm" / "lwip.wasm").read_bytes()


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="reproduce-") as scratch:
        try:
            modules = [build(Path(scratch) / name) for name in FOLDERS]
        except subprocess.CalledProcessError as error:
            print(error.stdout, "reproducible: a build failed", sep="\n", file=sys.stderr)
            return 1
    digests = [hashlib.sha256(module).hexdigest() for module in modules]
    print(f"reproducible: {digests[0]} and {digests[1]}")
    if modules[0] != modules[1]:
        print("two builds in different folders differ", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
