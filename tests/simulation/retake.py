"""Takes digests and the tutorial's seed anew, after a change of what stacks send: `python -m tests.simulation.retake`.

Rewrites the constants of `repeated`, `test_determinism` and `test_replicated_store`, and the blocks of the tutorial
that programs print; it takes some minutes. What is left to do by hand is printed in the end: the prose of the tutorial,
and the lines of the capture that it shows.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tcpip_wasm.simulation import run
from tests.simulation import repeated, test_determinism

ROOT: Final = Path(__file__).resolve().parents[2]
HERE: Final = ROOT / "tests" / "simulation"
TUTORIAL: Final = ROOT / "docs" / "tutorial" / "replicated-store.md"
HASH: Final = "[0-9a-f]{64}"


def set_constant(path: Path, name: str, value: str) -> None:
    """Assign a new value to a constant of a module."""
    text, count = re.subn(rf"^({name}(?:: Final)? = ).*$", rf"\g<1>{value}", path.read_text(), flags=re.MULTILINE)
    if count != 1:
        raise ValueError(f"{path.name} has {count} assignments to {name}")
    path.write_text(text)
    print(f"{path.relative_to(ROOT)}: {name} = {value}", flush=True)


def output(folder: Path, *arguments: str) -> str:
    """Return what a module prints, run in a folder."""
    command = [sys.executable, "-m", *arguments]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False).stdout


def replace_block(text: str, first: str, block: str) -> str:
    """Replace the block without a language that begins with a line, of which only the beginning is given."""
    pattern = re.compile(rf"^```\n({re.escape(first)}[^\n]*\n)(?:.*?\n)?```$", re.MULTILINE | re.DOTALL)
    changed, count = pattern.subn(lambda found: f"```\n{block.replace('FIRST', found[1].rstrip())}\n```", text)
    if count != 1:
        raise ValueError(f"the tutorial has {count} blocks that begin with {first!r}")
    return changed


def retake_tutorial() -> None:
    """Find the first seed with which the store fails, and write what the programs print for it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        printed = output(folder, "examples.replicated_store").rstrip()
        found = re.search(rf"seed (\d+) does not\n.*^trace ({HASH}), twice$", printed, re.MULTILINE | re.DOTALL)
        if found is None:
            raise ValueError(f"no seed fails:\n{printed}")
        seed, digest = int(found[1]), found[2]
        set_constant(HERE / "test_replicated_store.py", "SEED", str(seed))
        set_constant(HERE / "test_replicated_store.py", "DIGEST", f'"{digest}"')
        text = TUTORIAL.read_text()
        text = re.sub(r"range\(\d+, \d+\)", f"range({seed - 4}, {seed + 2})", text)
        text = re.sub(r"seed=\d+\)\.value", f"seed={seed}).value", text)
        text = replace_block(text, "$ python -m examples.replicated_store", f"FIRST\n{printed}")
        test = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[-1]
        (folder / "test_store.py").write_text(test)
        report = output(folder, "pytest", "-p", "pytest_tcpip_wasm", "-p", "no:asyncio", "test_store.py")
        lines = [
            line for line in report.splitlines() if line.startswith(("seed  ", "trace  ", "capture  ", "repeat  "))
        ]
        text = replace_block(text, "seed     ", "\n".join(lines))
        scenario = "examples.replicated_store.scenario:checked_scenario"
        swept = output(folder, "tcpip_wasm", "sweep", scenario, "--first", str(seed - 1), "-n", "2", "-j", "1")
        kept = [
            line
            for line in swept.splitlines()
            if line.startswith((f"seed {seed}:", "    trace", "    capture", "repeat"))
        ]
        text = replace_block(text, "$ .venv/bin/tcpip-wasm sweep", "FIRST\n" + "\n".join(kept))
        text = re.sub(r"(checked_scenario -n )\d+", rf"\g<1>{-(-(seed + 1) // 10) * 10}", text, count=1)
    TUTORIAL.write_text(text)
    print(f"{TUTORIAL.relative_to(ROOT)}: seed {seed}; by hand: the prose behind each block, the lines of the capture")


def main() -> None:
    set_constant(HERE / "repeated.py", "DIGEST", f'"{repeated.once(1).digest}"')
    set_constant(HERE / "repeated.py", "OTHER_DIGEST", f'"{repeated.once(2).digest}"')
    small = run(test_determinism.small, seed=7).digest
    set_constant(HERE / "test_determinism.py", "SMALL_DIGEST", f'"{small}"')
    retake_tutorial()


if __name__ == "__main__":
    main()
