"""A key-value store on several replicas, of which a majority suffices. JSON lines over TCP, nothing but asyncio.

One replica is the primary. Every `BEAT` it sends the whole store to the others, and at once after a write; a write is
answered when a majority has it. A replica that receives no beats for a while stands for election with a higher term: a
replica that votes for it ignores lower terms from then on, and sends it its data. The primary begins with the newest
data of a majority.

Reads cost no messages. Each replica that acknowledges a beat promises not to vote during the next `LEASE` seconds.
While a majority is bound like this there is no other primary, so that the primary may answer by itself.

As an example it omits disks, so that replicas must not restart, and stores too large for one message.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from math import inf
from typing import Any

PORT = 7000
BEAT = 0.15
LEASE = 0.5
LONGEST_WRITE = 2.0
"""Seconds, all three. A write that takes longer may still be carried out."""

Message = dict[str, Any]
log = logging.getLogger("store")


class Replica:
    """One of the replicas.

    Args:
        name: its host's name.
        names: the names of all replicas.
    """

    def __init__(self, name: str, names: list[str]) -> None:
        self.name = name
        self.peers = {peer: Peer(peer, self.heard) for peer in names if peer != name}
        self.majority = len(names) // 2 + 1
        self.term = 0  # the highest that it has seen
        self.primary: str | None = None  # of that term
        self.bound = 0.0  # until when it must not vote
        self.version = (0, 0)  # of its data: the term and the number of the change
        self.data: dict[str, str] = {}
        # State of a candidate:
        self.votes: dict[str, Message] = {}
        # State of a primary:
        self.acknowledged: dict[str, int] = {}  # the number of the last change that each replica has
        self.promised: dict[str, float] = {}  # from when on each replica has been bound
        self.answers: dict[str, str] = {}  # the data that a majority has
        self.committed = 0
        self.waiting: dict[int, asyncio.Future[bool]] = {}  # writes, by the number of the change

    async def run(self) -> None:
        """Serve, until cancelled."""
        async with await asyncio.start_server(self.serve, port=PORT) as server, asyncio.TaskGroup() as tasks:
            for peer in self.peers.values():
                tasks.create_task(peer.run())
            tasks.create_task(self.live())
            await server.serve_forever()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection of a replica or a client."""
        try:
            while line := await reader.readline():
                message = json.loads(line)
                match message["do"]:
                    case "beat":
                        answer = self.beat(message)
                    case "vote":
                        answer = self.vote(message)
                    case "get":
                        answer = self.get(message)
                    case _:
                        answer = await self.put(message)
                writer.write(json.dumps(answer).encode() + b"\n")
        except OSError:
            pass  # the peer will connect again
        finally:
            writer.close()

    # --- For clients ------------------------------------------------------------------------------------------------

    def get(self, message: Message) -> Message:
        """Answer a read."""
        if self.primary != self.name or not self.committed or not self.has_lease():
            return {"do": "ask", "whom": self.primary}
        return {"do": "value", "value": self.answers.get(message["key"])}

    async def put(self, message: Message) -> Message:
        """Carry out a write."""
        if self.primary != self.name:
            return {"do": "ask", "whom": self.primary}
        term, number = self.version
        self.version = term, number + 1
        self.data = {**self.data, message["key"]: message["value"]}
        future = self.waiting[number + 1] = asyncio.get_running_loop().create_future()
        self.send_beat()
        await asyncio.wait([future], timeout=LONGEST_WRITE)
        self.waiting.pop(number + 1, None)
        return {"do": "done" if future.done() and future.result() else "unknown"}

    # --- As a replica -----------------------------------------------------------------------------------------------

    def beat(self, message: Message) -> Message:
        """Store the primary's data, and be bound to it."""
        if message["term"] < self.term:
            return {"do": "refuse", "term": self.term}
        self.follow(message["term"], message["primary"])
        self.bound = time.monotonic() + LEASE
        if self.version <= (message["term"], message["number"]):
            self.version, self.data = (message["term"], message["number"]), message["data"]
        return {"do": "ack", "term": self.term, "number": message["number"], "sent": message["sent"]}

    def vote(self, message: Message) -> Message:
        """Vote for the first candidate of a new term, unless bound."""
        now = time.monotonic()
        if message["term"] <= self.term or now < self.bound:
            return {"do": "refuse", "term": self.term}
        self.follow(message["term"], None)
        self.bound = now + LEASE
        return {"do": "vote", "term": self.term, "version": self.version, "data": self.data}

    def follow(self, term: int, primary: str | None) -> None:
        """Adopt a term, and its primary if it is known."""
        if self.primary == self.name and term > self.term:
            log.info("steps down for term %d", term)
            for done in self.waiting.values():
                done.set_result(False)
            self.waiting.clear()
        self.term, self.primary = term, primary

    async def live(self) -> None:
        """Send beats as the primary, and otherwise stand for election when no beats arrive."""
        while True:
            if self.primary == self.name:
                self.send_beat()
                await asyncio.sleep(BEAT)
            else:
                await asyncio.sleep(random.uniform(BEAT, 4 * BEAT))
                if self.primary != self.name and time.monotonic() >= self.bound:
                    self.stand()

    # --- As a candidate, and as the primary -------------------------------------------------------------------------

    def stand(self) -> None:
        """Request the votes of all replicas."""
        self.follow(self.term + 1, None)
        self.votes = {self.name: {"version": self.version, "data": self.data}}
        for peer in self.peers.values():
            peer.send({"do": "vote", "term": self.term})

    def send_beat(self) -> None:
        """Send all data to all replicas."""
        now = time.monotonic()
        self.bound = now + LEASE  # to itself, too
        beat = {"do": "beat", "term": self.term, "primary": self.name, "number": self.version[1], "sent": now}
        for peer in self.peers.values():
            peer.send({**beat, "data": self.data})

    def heard(self, peer: str, message: Message) -> None:
        """Process the answer of another replica."""
        if message["term"] > self.term:
            self.follow(message["term"], None)
        elif message["term"] == self.term and message["do"] == "vote" and self.primary is None:
            self.votes[peer] = message
            if len(self.votes) >= self.majority:
                self.begin()
        elif message["term"] == self.term and message["do"] == "ack":
            self.acknowledged[peer] = max(message["number"], self.acknowledged.get(peer, 0))
            self.promised[peer] = self.bound_since(message)
            self.commit()

    def begin(self) -> None:
        """Become the primary, with the newest data of the replicas that voted."""
        newest = max(self.votes.values(), key=lambda vote: tuple(vote["version"]))
        self.data, self.version = newest["data"], (self.term, 1)
        self.primary = self.name
        self.acknowledged, self.promised, self.committed = {}, {}, 0
        log.info("is the primary of term %d, by %s", self.term, ", ".join(sorted(self.votes)))
        self.send_beat()

    def commit(self) -> None:
        """Answer the writes that a majority has."""
        number = self.of_majority([self.version[1], *self.acknowledged.values()])
        if number > self.committed and number == self.version[1]:
            self.committed, self.answers = number, self.data
            for each in [each for each in self.waiting if each <= number]:
                self.waiting.pop(each).set_result(True)

    def has_lease(self) -> bool:
        """Whether a majority is still bound to this replica."""
        now = time.monotonic()
        return bool(now < self.of_majority([now, *self.promised.values()]) + LEASE)

    def of_majority(self, values: list[Any]) -> Any:
        """Return the largest value that a majority reaches; a replica without an answer reaches none."""
        values += [-inf] * (len(self.peers) + 1 - len(values))
        return sorted(values, reverse=True)[self.majority - 1]

    def bound_since(self, ack: Message) -> float:
        """Return since when a replica is bound to this one, whose acknowledgement has just arrived."""
        return time.monotonic()


class RepairedReplica(Replica):
    """The same, repaired."""

    def bound_since(self, ack: Message) -> float:
        """Return the earliest possible time: it was not bound before the beat was sent."""
        return float(ack["sent"])


class Peer:
    """The connection to another replica, which reconnects after errors. Messages that cannot be sent are dropped.

    Args:
        name: the other's name.
        heard: called with its name and each answer.
    """

    def __init__(self, name: str, heard: Any) -> None:
        self.name = name
        self.heard = heard
        self.writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        """Keep the connection, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(1):
                    reader, self.writer = await asyncio.open_connection(self.name, PORT)
                while line := await reader.readline():
                    self.heard(self.name, json.loads(line))
            except OSError:
                pass  # includes TimeoutError
            finally:
                if self.writer is not None:
                    self.writer.close()
                    self.writer = None
            await asyncio.sleep(BEAT)

    def send(self, message: Message) -> None:
        """Send a message, if there is a connection with room in its buffer."""
        if self.writer is not None and self.writer.transport.get_write_buffer_size() < 100_000:
            self.writer.write(json.dumps(message).encode() + b"\n")
