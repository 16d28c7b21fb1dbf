"""The public names: the exports of the top level, and the modules that importing it loads."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tcpip_wasm

ROOT = Path(tcpip_wasm.__file__).parent

LAYERS = ("errors", "interfaces", "names", "sockets", "stack", "streams")
"""Modules whose public names are the package's."""

WITHIN = {
    # For code that implements a stream or an interface: importable from their own module only.
    "streams": {"EndOfStream", "PIPE_BURST", "Sink", "Source", "StreamPair", "TEE_LIMIT", "TRANSFORM_LIMIT"},
    "interfaces": {"StreamInterface"},
    "errors": set[str](),
    "names": set[str](),
    "sockets": set[str](),
    "stack": set[str](),
}


def promised(layer: str) -> set[str]:
    module = importlib.import_module(f"tcpip_wasm.{layer}")
    names = getattr(module, "__all__", None)
    if names is None:  # a single module without a list: its own public classes and functions
        names = [
            name
            for name, value in vars(module).items()
            if not name.startswith("_")
            and (inspect.isclass(value) or inspect.isfunction(value))
            and value.__module__ == module.__name__
        ]
    return set(names)


def test_top_level_is_the_union_of_its_layers() -> None:
    expected = set().union(*[promised(layer) - WITHIN[layer] for layer in LAYERS])
    assert set(tcpip_wasm.__all__) == expected
    assert len(tcpip_wasm.__all__) == len(set(tcpip_wasm.__all__))


def test_every_public_name_exists() -> None:
    for name in tcpip_wasm.__all__:
        assert getattr(tcpip_wasm, name) is not None
    for layer in LAYERS:
        module = importlib.import_module(f"tcpip_wasm.{layer}")
        for name in promised(layer) & set(tcpip_wasm.__all__):
            assert getattr(module, name) is getattr(tcpip_wasm, name)


@pytest.mark.parametrize("name", [info.name for info in pkgutil.walk_packages(tcpip_wasm.__path__, "tcpip_wasm.")])
def test_modules_explain_themselves(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        pytest.skip(f"not for this system: {error}")
    assert module.__doc__
    for exported in getattr(module, "__all__", ()):
        assert hasattr(module, exported), f"{name} promises {exported}"


@pytest.mark.parametrize("package", [path.parent for path in ROOT.rglob("__init__.py")], ids=lambda path: path.name)
def test_packages_say_what_is_in_them(package: Path) -> None:
    said = ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8")))
    assert said
    inside = {path.stem for path in package.glob("*.py")} | {path.parent.name for path in package.glob("*/__init__.py")}
    assert inside - {"__init__", "__main__"} <= set(re.findall(r"\w+", said))


@pytest.mark.parametrize("name", sorted(set(tcpip_wasm.__all__) - {"network_error"}))
def test_public_names_are_documented(name: str) -> None:
    value = getattr(tcpip_wasm, name)
    assert inspect.getdoc(value)
    if inspect.isclass(value) and value.__module__.startswith("tcpip_wasm"):
        for attribute, member in vars(value).items():
            if not attribute.startswith("_") and inspect.isfunction(member):
                assert inspect.getdoc(getattr(value, attribute)), f"{name}.{attribute}"


def test_help_shows_what_users_call() -> None:
    """Methods that the driver, interfaces and sockets call on each other begin with an underscore."""
    for name in tcpip_wasm.__all__:
        value = getattr(tcpip_wasm, name)
        if inspect.isclass(value) and value.__module__.startswith("tcpip_wasm"):
            text = pydoc.plain(pydoc.render_doc(value))
            shown = re.findall(
                r"^ \|  (on_\w+|begin|dead_end|forget_port|give_back_soon|leave_backlog)\b", text, re.MULTILINE
            )
            assert shown == [], f"{name}: {shown}"


def test_errors_are_one_tree() -> None:
    for name in tcpip_wasm.errors.__all__:
        value = getattr(tcpip_wasm, name)
        if inspect.isclass(value):
            assert issubclass(value, tcpip_wasm.TcpipError), name


def test_import_pulls_in_wasmtime_and_the_standard_library_only() -> None:
    program = (
        "import sys; before = set(sys.modules); import wasmtime; needed = set(sys.modules);"
        "import tcpip_wasm; print(*sorted({name.partition('.')[0] for name in set(sys.modules) - needed}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=250)
    pulled = set(done.stdout.split())
    assert "tcpip_wasm" in pulled
    assert {name for name in pulled if name not in sys.stdlib_module_names} == {"tcpip_wasm"}


def test_version() -> None:
    assert tcpip_wasm.__version__.count(".") == 2
