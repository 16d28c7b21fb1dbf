"""The tutorial "serve files to a virtual machine": its script, its commands and what they print, with QEMU."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
import shutil
import sys
from pathlib import Path

import pytest

from .harness.requirements import missing, require_network_boot

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "virtual-machine.md"
BLOCKS: list[str] = re.findall(r"^```\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
BOUND = 240.0

pytestmark = [pytest.mark.guest, pytest.mark.timeout(600)]


def block(start: str) -> str:
    """Return the page's block that begins so."""
    [found] = [text for text in BLOCKS if text.startswith(start)]
    return found


def image(name: str) -> Path:
    """Return a readable file of /boot."""
    paths = [path for path in sorted(Path("/boot").glob(name)) if os.access(path, os.R_OK)]
    if not paths:
        missing(f"there is no /boot/{name}")
    return paths[-1]


class Terminal:
    """A program with pipes, in the folder of the tutorial."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process, self._input, self._output = process, process.stdin, process.stdout
        self._text = ""

    @classmethod
    async def run(cls, *arguments: str, folder: Path) -> Terminal:
        pipe = asyncio.subprocess.PIPE
        return cls(
            await asyncio.create_subprocess_exec(
                *arguments, cwd=folder, stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT
            )
        )

    async def until(self, end: str) -> str:
        """Return what is printed before `end`, without escape sequences."""
        try:
            async with asyncio.timeout(BOUND):
                while end not in self._text:
                    chunk = await self._output.read(65536)
                    assert chunk, f"no {end!r} in:\n{self._text}"
                    text = chunk.decode(errors="replace").replace("\r", "")
                    self._text += re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
        except TimeoutError:
            raise AssertionError(f"no {end!r} in:\n{self._text}") from None
        before, _, self._text = self._text.partition(end)
        return before

    def type(self, line: str) -> None:
        self._input.write(line.encode() + b"\n")

    async def end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


def test_the_tutorial(tmp_path: Path) -> None:
    require_network_boot()
    kernel, archive = image("vmlinuz-*-cloud-amd64"), image("initrd.img-*-cloud-amd64")

    async def main() -> None:
        files = tmp_path / "files"
        files.mkdir()
        shutil.copy(kernel, files / "vmlinuz")
        shutil.copy(archive, files / "initrd.img")
        data = random.Random(1).randbytes(10_000_000)
        (files / "data.bin").write_bytes(data)
        (files / "boot.ipxe").write_text(block("#!ipxe"))

        prompt, *printed = block("$ tcpip-wasm").splitlines()
        program, *arguments = prompt.removeprefix("$ ").split()
        assert program == "tcpip-wasm"
        server = await Terminal.run(sys.executable, "-m", "tcpip_wasm", *arguments, folder=tmp_path)
        machine = None
        try:
            assert [await server.until("\n") for _ in printed] == printed
            machine = await Terminal.run(*block("qemu-system-x86_64").split(), folder=tmp_path)
            booting = await machine.until("(initramfs)")
            for line in block("Configuring").splitlines()[1:]:
                first, _, last = line.partition("...")
                assert first in booting
                assert last.strip() in ("", "ok")
            answers = {}
            for line in block("(initramfs)").splitlines():
                command = line.removeprefix("(initramfs) ")
                machine.type(command)
                answers[command.split()[0]] = await machine.until("(initramfs)")
            assert "address: 10.0.0.2 " in answers["ipconfig"]
            assert re.search(r"Name:\s+files\.internal\nAddress: 10\.0\.0\.1\n", answers["nslookup"])
            assert hashlib.sha256(data).hexdigest() in answers["sha256sum"]
            machine.type("wget http://192.0.2.1/")
            assert "Network is unreachable" in await machine.until("(initramfs)")
        finally:
            if machine is not None:
                await machine.end()
            await server.end()

    asyncio.run(main())
