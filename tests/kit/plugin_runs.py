"""Runs pytest on a test file in a process of its own, with the plugin."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tcpip_wasm.simulation import Network

ROOT = Path(__file__).resolve().parents[2]

PLUGIN = "-ppytest_tcpip_wasm"

HEAD = """
import asyncio
import os
import random
import time

import pytest

import tcpip_wasm
from tcpip_wasm import create_stack


async def echo(reader, writer):
    while line := await reader.readline():
        writer.write(line)
    writer.close()


async def serve():
    async with await asyncio.start_server(echo, port=7) as server:
        await server.serve_forever()


async def ask(text=b"hello"):
    reader, writer = await asyncio.open_connection("b", 7)
    writer.write(text + b"\\n")
    answer = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return answer.strip()


def build(network):
    a, b = network.host("a"), network.host("b")
    network.link(a, b, bandwidth=1e7, delay=0.01, loss=0.1)
    b.start(serve)
    return a


async def on_loopback(stack):
    async with await stack.start_server(echo, "127.0.0.1", 7):
        reader, writer = await stack.open_connection("127.0.0.1", 7)
        writer.write(b"hello\\n")
        assert await reader.readline() == b"hello\\n"
        writer.close()
        await writer.wait_closed()
"""


Runs = Callable[..., pytest.RunResult]


@pytest.fixture
def runs(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Runs a test file in a process of its own, where warnings are errors."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run_file(source: str, *options: str, alone: bool = True) -> pytest.RunResult:
        pytester.makepyfile(HEAD + textwrap.dedent(source))
        plugins = ["-pno:asyncio", "-pno:anyio"] if alone else []
        return pytester.runpytest_subprocess(PLUGIN, "-Werror", "--strict-markers", *plugins, *options, timeout=250)

    return run_file


def said(result: pytest.RunResult, what: str) -> str:
    """Return what a failure says, such as its trace."""
    found = re.search(rf"^{what} +(.*)$", result.stdout.str(), re.MULTILINE)
    assert found, result.stdout.str()
    return found[1]


async def same(network: Network) -> bytes:
    """What tests in test files do, for `run`."""
    names: dict[str, Any] = {}
    exec(HEAD, names)
    answer: bytes = await names["build"](network).run(names["ask"]())
    assert answer == b"hello"
    return answer
