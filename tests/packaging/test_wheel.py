"""The wheel: its name, its content, and that it runs without a C toolchain."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

from hatch_build import describe

ROOT = Path(__file__).resolve().parents[2]
INSTALL_TIMEOUT_S = 300

pytestmark = pytest.mark.timeout(INSTALL_TIMEOUT_S)


def run(*command: str | Path, cwd: Path, path: str | None = None) -> str:
    """Run a program and return its output; its whole output is the message if it fails."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
    if path is not None:
        environment["PATH"] = path
    result = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=INSTALL_TIMEOUT_S,
    )
    assert result.returncode == 0, result.stdout
    return result.stdout


def build(kind: str, output: Path) -> Path:
    # Without isolation: the environment of the tests has the build requirements, a fresh one fetches them.
    run(sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", output, ROOT, cwd=ROOT)
    (built,) = output.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment with the wheel and its dependencies."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=True, symlinks=True)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, cwd=folder)
    return python


def test_wheel_is_pure(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as pack:
        (name,) = (name for name in pack.namelist() if name.endswith(".dist-info/WHEEL"))
        assert "Root-Is-Purelib: true" in pack.read(name).decode()


def test_wheel_contents(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as pack:
        names = pack.namelist()
        assert pack.read("tcpip_wasm/lwip.wasm") == (ROOT / "tcpip_wasm" / "lwip.wasm").read_bytes()
        (licence,) = (name for name in names if name.endswith("/licenses/LICENSE"))
        (notice,) = (name for name in names if name.endswith("/licenses/third_party/lwip/COPYING"))
        assert b"tcpip_wasm contributors" in pack.read(licence)
        assert pack.read(notice) == (ROOT / "third_party" / "lwip" / "COPYING").read_bytes()
    assert "tcpip_wasm/py.typed" in names
    strangers = [name for name in names if not name.startswith(("tcpip_wasm/", "tcpip_wasm-"))]
    assert strangers == ["pytest_tcpip_wasm.py"], "the pytest plugin, which is not to import the package"
    assert [name for name in names if name.endswith((".c", ".h", ".pyc", ".o", ".toml"))] == []


def test_wasmtime_is_not_needed_in_pyodide(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as pack:
        (name,) = (name for name in pack.namelist() if name.endswith(".dist-info/METADATA"))
        needs = message_from_string(pack.read(name).decode()).get_all("Requires-Dist") or []
    (wasmtime,) = (need for need in needs if need.startswith("wasmtime"))
    assert wasmtime.endswith(("; sys_platform != 'emscripten'", '; sys_platform != "emscripten"'))


def test_the_description_has_no_dead_links(wheel: Path, sdist: Path) -> None:
    """Readers of a package index do not have the repository's files."""
    with zipfile.ZipFile(wheel) as pack:
        (name,) = (name for name in pack.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = pack.read(name).decode()
    with tarfile.open(sdist) as tar:
        (member,) = (one for one in tar.getmembers() if one.name.endswith("/PKG-INFO"))
        file = tar.extractfile(member)
        assert file is not None
        assert "/README.md" in "".join(tar.getnames()), "from which a wheel is built"
        parsed = [message_from_string(text) for text in (metadata, file.read().decode())]
    for message in parsed:
        assert message["Description-Content-Type"] == "text/markdown"
        description = message.get_payload()
        assert isinstance(description, str)
        assert description.startswith("# tcpip_wasm")
        assert "async def main():" in description
        assert [target for target in re.findall(r"\]\(([^)]*)\)", description) if "://" not in target] == []
        assert "<!--" not in description
        assert "[lwIP](https://savannah.nongnu.org/projects/lwip/)" in description


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        (None, "see the `docs`, a and b, [c](https://c.example), ![p](https://p.example/p.png)\n"),
        ("https://example.org/o/n/", "see the [`docs`](https://example.org/o/n/blob/HEAD/docs/x.md), "
         "[a](https://example.org/o/n/blob/HEAD/a_b.py) and b, [c](https://c.example), ![p](https://p.example/p.png)\n"),
    ],
)  # fmt: skip
def test_links_become_absolute(base: str | None, expected: str) -> None:
    readme = (
        "<!-- hidden -->\nsee the [`docs`](docs/x.md), [a](a_b.py) and [b](#b), [c](https://c.example), "
        "![p](https://p.example/p.png)\n"
    )
    assert describe(readme, base) == expected


def test_sdist_contents(sdist: Path) -> None:
    with tarfile.open(sdist) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {
        "wasm/Makefile",
        "wasm/abi.toml",
        "js/src/abi.ts",
        "js/conformance/runner.mjs",
        "conformance/digests.json",
        "conformance/scenarios/tcp.toml",
        "examples/pyodide/page.html",
        "third_party/lwip/manifest.toml",
        "hatch_build.py",
        "pytest_tcpip_wasm.py",
        "LICENSE",
    } <= names
    built = [
        name
        for name in names
        if name.endswith((".wasm", ".o", ".a")) or name.startswith(("third_party/lwip/build", "wasm/build"))
    ]
    assert built == []


def test_wheel_runs_without_a_toolchain(installed: Path, tmp_path: Path) -> None:
    # The path holds nothing but this Python, so there is neither a compiler nor make to fall back on.
    program = (
        "import importlib.metadata, pathlib, shutil, tcpip_wasm\n"
        "assert not any(map(shutil.which, ('cc', 'gcc', 'clang', 'make', 'zig')))\n"
        "module = pathlib.Path(tcpip_wasm.__file__).with_name('lwip.wasm')\n"
        "print(importlib.metadata.version('tcpip_wasm'), module.stat().st_size, tcpip_wasm.__file__)\n"
    )
    version, size, place = run(installed, "-c", program, cwd=tmp_path, path=str(installed.parent)).split()
    assert version == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert 0 < int(size) <= 112_000
    assert Path(place).is_relative_to(installed.parents[1])


def test_import_needs_wasmtime_only(installed: Path, tmp_path: Path) -> None:
    listed = run(installed, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check", cwd=tmp_path)
    names = {line.partition("==")[0].lower().replace("-", "_") for line in listed.split() if "==" in line}
    assert {"tcpip_wasm", "wasmtime"} <= names
    assert not names & {"ziglang", "patch_ng", "hatchling"}
    run(installed, "-c", "import tcpip_wasm, tcpip_wasm.simulation", cwd=tmp_path)


def test_pytest_finds_the_plugin(installed: Path, tmp_path: Path) -> None:
    program = (
        "from importlib.metadata import entry_points\n"
        "print(*((one.name, one.value) for one in entry_points(group='pytest11')))\n"
    )
    assert run(installed, "-c", program, cwd=tmp_path).strip() == "('pytest_tcpip_wasm', 'pytest_tcpip_wasm')"
