"""A client of the store, which records its requests, their times and the answers. Nothing but asyncio."""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass
from math import inf
from typing import Any

from examples.replicated_store.store import PORT

ANSWER_TIMEOUT = 0.15
"""Seconds that a client waits for an answer."""


@dataclass(frozen=True)
class Operation:
    """A read that was answered, or a write. No value is written twice.

    Attributes:
        client, replica: the client, and the replica that it asked.
        kind: ``get`` or ``put``.
        value: the value that was read or written; None is the initial value of a key.
        begin, end: seconds. A write without an answer may take effect at any time, or never: `end` is infinite.
    """

    client: str
    replica: str
    kind: str
    key: str
    value: str | None
    begin: float
    end: float

    def __str__(self) -> str:
        end = f"{self.end:.6f}" if self.end < inf else "?"
        return f"{self.begin:.6f} to {end}: {self.client} {self.kind} {self.key} = {self.value} at {self.replica}"


class Client:
    """A client.

    Args:
        name: its name.
        replicas: the replicas that it may ask.
        history: the list to which it appends its operations.
    """

    def __init__(self, name: str, replicas: list[str], history: list[Operation]) -> None:
        self.name = name
        self.replicas = replicas
        self.history = history
        self.replica = random.choice(replicas)
        self.connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, keys: list[str]) -> None:
        """Read and write, until cancelled."""
        written = 0
        try:
            while True:
                await asyncio.sleep(random.uniform(0, 0.04))
                key = random.choice(keys)
                if random.random() < 0.4:
                    written += 1
                    await self.operate("put", key, f"{self.name}-{written}")
                else:
                    await self.operate("get", key)
        finally:
            self.disconnect()

    async def operate(self, kind: str, key: str, value: str | None = None) -> None:
        """Ask one replica after another, until one answers or the operation may have taken effect."""
        begin = time.monotonic()
        while True:
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    answer = await self.ask({"do": kind, "key": key, "value": value})
            except OSError:  # includes TimeoutError
                self.disconnect()
                answer = {"do": "unknown"}
            asked = self.replica
            if answer["do"] == "ask":
                await asyncio.sleep(random.uniform(0, 0.04))
                self.switch_to(answer["whom"])
                continue
            if answer["do"] == "value":
                self.history.append(Operation(self.name, asked, kind, key, answer["value"], begin, time.monotonic()))
            elif kind == "put":
                end = time.monotonic() if answer["do"] == "done" else inf
                self.history.append(Operation(self.name, asked, kind, key, value, begin, end))
            if answer["do"] == "unknown":
                self.switch_to(None)
            return

    def switch_to(self, replica: str | None) -> None:
        """Ask another replica from now on: the given one, or any."""
        if replica is None or replica == self.replica:
            replica = random.choice(self.replicas)
        if replica != self.replica:
            self.disconnect()
            self.replica = replica

    async def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send a message, and return the answer."""
        if self.connection is None:
            self.connection = await asyncio.open_connection(self.replica, PORT)
        reader, writer = self.connection
        writer.write(json.dumps(message).encode() + b"\n")
        line = await reader.readline()
        if not line:
            raise ConnectionResetError("the replica has closed the connection")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def disconnect(self) -> None:
        """Close the connection."""
        if self.connection is not None:
            self.connection[1].close()
            self.connection = None
