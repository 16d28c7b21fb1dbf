"""The compiled module and its cache: entries, checks of their owner, and the error of a missing module."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import wasmtime

from tcpip_wasm.engine import binary
from tcpip_wasm.engine.wasmtime_engine import module
from tcpip_wasm.engine.wasmtime_engine.module import cache_folder, compile_cached, engine
from tcpip_wasm.errors import ModuleMismatchError, TcpipError

posix = pytest.mark.skipif(sys.platform == "win32", reason="owner and mode are POSIX's")

SMALL = bytes(wasmtime.wat2wasm('(module (func (export "answer") (result i32) i32.const 42))'))


def answer(compiled: wasmtime.Module) -> int:
    store = wasmtime.Store(engine())
    function = wasmtime.Instance(store, compiled, []).exports(store)["answer"]
    assert isinstance(function, wasmtime.Func)
    result = function(store)
    assert isinstance(result, int)
    return result


def entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The modules that are compiled, and not loaded from the cache."""
    compiled: list[bytes] = []

    class Counting(wasmtime.Module):
        def __init__(self, engine: wasmtime.Engine, binary: bytes) -> None:
            compiled.append(binary)
            super().__init__(engine, binary)

    monkeypatch.setattr(wasmtime, "Module", Counting)
    return compiled


def test_compiled_once(folder: Path, compilations: list[bytes]) -> None:
    assert answer(compile_cached(SMALL, folder)) == 42
    assert answer(compile_cached(SMALL, folder)) == 42
    assert compilations == [SMALL]
    assert len(entries(folder)) == 1


def test_other_binary_other_entry(folder: Path) -> None:
    other = bytes(wasmtime.wat2wasm('(module (func (export "answer") (result i32) i32.const 43))'))
    assert [answer(compile_cached(binary, folder)) for binary in (SMALL, other, SMALL)] == [42, 43, 42]
    assert len(entries(folder)) == 2


def test_folder_and_parents_are_made(tmp_path: Path) -> None:
    folder = tmp_path / "one" / "two"
    compile_cached(SMALL, folder)
    assert len(entries(folder)) == 1
    if sys.platform != "win32":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@posix
def test_cache_entry_of_other_users_is_ignored(folder: Path) -> None:
    compile_cached(SMALL, folder)
    assert stat.S_IMODE(entries(folder)[0].stat().st_mode) & 0o022 == 0


@posix
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_folder_writable_by_others_is_not_used(folder: Path, compilations: list[bytes], mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)
    assert answer(compile_cached(SMALL, folder)) == 42
    assert entries(folder) == []
    assert len(compilations) == 1


@posix
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_entry_writable_by_others_is_rebuilt(folder: Path, compilations: list[bytes], mode: int) -> None:
    compile_cached(SMALL, folder)
    entries(folder)[0].chmod(mode)
    assert answer(compile_cached(SMALL, folder)) == 42
    assert len(compilations) == 2
    assert stat.S_IMODE(entries(folder)[0].stat().st_mode) & 0o022 == 0


@posix
@pytest.mark.parametrize("what", ["folder", "entry"])
def test_entry_of_another_owner(
    folder: Path, compilations: list[bytes], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    compile_cached(SMALL, folder)
    own = os.geteuid()
    if own == 0:
        os.chown(folder if what == "folder" else entries(folder)[0], 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    assert answer(compile_cached(SMALL, folder)) == 42
    assert len(compilations) == 2


@posix
def test_symbolic_link_is_not_followed(folder: Path, tmp_path: Path, compilations: list[bytes]) -> None:
    compile_cached(SMALL, folder)
    entry = entries(folder)[0]
    elsewhere = entry.rename(tmp_path / "elsewhere")
    entry.symlink_to(elsewhere)
    assert answer(compile_cached(SMALL, folder)) == 42
    assert len(compilations) == 2


def put_fifo(path: Path) -> None:
    os.mkfifo(path, 0o600)


def put_socket(path: Path) -> None:
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path.name)  # 107 bytes at most


def put_device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # Linux's /dev/zero, which never ends
    except OSError as error:
        pytest.skip(f"this process may not make a device: {error}")


def put_directory(path: Path) -> None:
    path.mkdir()


def put_huge_file(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(1 << 40)  # sparse


CREATE_STACK = """
import asyncio, tcpip_wasm
async def main():
    async with await tcpip_wasm.create_stack():
        print("created")
asyncio.run(main())
"""


@posix
@pytest.mark.parametrize("put", [put_fifo, put_socket, put_device, put_directory, put_huge_file])
def test_other_files_in_place_of_an_entry(folder: Path, put: Callable[[Path], None]) -> None:
    """It is ignored, and replaced if possible; in another process, since reading it might never end."""

    def create() -> str:
        environment = {**os.environ, module.CACHE_VARIABLE: str(folder)}
        done = subprocess.run(
            [sys.executable, "-c", CREATE_STACK],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return done.stdout

    assert create() == "created\n"
    (entry,) = entries(folder)
    entry.unlink()
    put(entry)
    assert create() == "created\n"
    assert entries(folder) == [entry]  # and no rubbish beside it
    assert stat.S_ISREG(entry.lstat().st_mode) == (put is not put_directory)
    if put is not put_directory:
        assert 0 < entry.stat().st_size <= module.LARGEST_ENTRY
    assert create() == "created\n"


@posix
def test_entry_replaced_by_a_fifo_during_the_check(
    folder: Path, compilations: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_cached(SMALL, folder)
    (entry,) = entries(folder)
    regular = entry.lstat()
    entry.unlink()
    put_fifo(entry)
    look = os.stat

    def before(path: os.PathLike[str], *, follow_symlinks: bool = True) -> os.stat_result:
        return look(path) if follow_symlinks else regular

    monkeypatch.setattr(os, "stat", before)
    writer = os.open(entry, os.O_RDWR)  # so that a read which does not look would wait, but its open would not
    try:
        opened = os.open
        flags: list[int] = []

        def opening(path: Path, how: int, *rest: int) -> int:
            flags.append(how)
            return opened(path, how, *rest)

        monkeypatch.setattr(os, "open", opening)
        assert answer(compile_cached(SMALL, folder)) == 42
        assert flags[0] & os.O_NONBLOCK
    finally:
        os.close(writer)
    assert len(compilations) == 2
    assert stat.S_ISREG(entry.lstat().st_mode)


@pytest.mark.parametrize(
    "damage",
    [
        lambda old: b"",
        lambda old: old[:20],
        lambda old: old[:-1],
        lambda old: old + b"\0",
        lambda old: old[:100] + bytes([old[100] ^ 1]) + old[101:],
        lambda old: b"\0" * len(old),
    ],
    ids=["empty", "digest cut", "cut", "longer", "one bit", "zeros"],
)
def test_damaged_entry_is_rebuilt(folder: Path, compilations: list[bytes], damage) -> None:  # type: ignore[no-untyped-def]
    compile_cached(SMALL, folder)
    entry = entries(folder)[0]
    sound = entry.read_bytes()
    entry.write_bytes(damage(sound))
    assert answer(compile_cached(SMALL, folder)) == 42
    assert len(compilations) == 2
    assert answer(compile_cached(SMALL, folder)) == 42
    assert len(compilations) == 2


def test_sound_entry_that_wasmtime_refuses(folder: Path, compilations: list[bytes]) -> None:
    compile_cached(SMALL, folder)
    module._write(entries(folder)[0], b"the machine code of another machine")
    assert answer(compile_cached(SMALL, folder)) == 42
    assert answer(compile_cached(SMALL, folder)) == 42
    assert len(compilations) == 2


def test_no_folder(compilations: list[bytes]) -> None:
    assert answer(compile_cached(SMALL, None)) == 42
    assert len(compilations) == 1


@pytest.mark.parametrize("obstacle", ["file in its place", "file in its parent's place"])
def test_folder_that_cannot_be_created(tmp_path: Path, obstacle: str) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" if obstacle == "file in its place" else tmp_path / "file" / "cache"
    assert answer(compile_cached(SMALL, folder)) == 42


@posix
def test_read_only_folder(folder: Path, compilations: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    folder.chmod(0o500)
    if os.geteuid() == 0:  # whom no mode stops

        def refuse(*_: object, **__: object) -> tuple[int, str]:
            raise PermissionError("read-only")

        monkeypatch.setattr("tempfile.mkstemp", refuse)
    assert answer(compile_cached(SMALL, folder)) == 42
    assert entries(folder) == []


@posix
def test_full_disk_leaves_no_partial_entry(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    assert answer(compile_cached(SMALL, folder)) == 42
    assert entries(folder) == []


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"TCPIP_WASM_CACHE_DIR": "/somewhere"}, Path("/somewhere")),
        ({"TCPIP_WASM_CACHE_DIR": ""}, None),
        ({"XDG_CACHE_HOME": "/caches"}, Path("/caches/tcpip_wasm")),
        ({"XDG_CACHE_HOME": "relative"}, None),
        ({"HOME": "/home/somebody"}, Path("/home/somebody/.cache/tcpip_wasm")),
    ],
)
@posix
def test_location_of_the_cache(
    variables: dict[str, str], expected: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TCPIP_WASM_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == expected


def test_no_module_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(binary, "MODULE_PATH", tmp_path / "lwip.wasm")
    module.load.cache_clear()
    try:
        with pytest.raises(ModuleMismatchError, match="make wasm") as caught:
            module.load()
        assert isinstance(caught.value, TcpipError)
        assert isinstance(caught.value, RuntimeError)
    finally:
        module.load.cache_clear()


def test_one_module_per_process() -> None:
    assert module.load() is module.load()


def test_optimization_is_chosen_by_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each level has an entry of its own in the cache, and an unknown level is refused."""
    fresh = engine.__wrapped__  # the process keeps its engine
    for level in module.OPTIMIZATIONS:
        monkeypatch.setenv(module.OPTIMIZE_VARIABLE, level)
        made = fresh()
        monkeypatch.setattr(module, "engine", lambda made=made: made)
        compiled = compile_cached(SMALL, folder)
        store = wasmtime.Store(made)
        function = wasmtime.Instance(store, compiled, []).exports(store)["answer"]
        assert isinstance(function, wasmtime.Func)
        assert function(store) == 42
    assert len(entries(folder)) == len(module.OPTIMIZATIONS)
    monkeypatch.setenv(module.OPTIMIZE_VARIABLE, "most")
    with pytest.raises(ValueError, match="TCPIP_WASM_OPTIMIZE: 'most' is none of speed, speed_and_size, none"):
        fresh()
