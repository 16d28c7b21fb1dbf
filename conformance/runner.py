"""Executes compiled scenarios by the Python core. js/conformance/runner.mjs does the same, call by call.

Owns the order in which things happen, on which all digests depend:

1. Operations that are due, then frames that are due, in the order of their time; then each host that has work is
   polled, in the order of the scenario. This is repeated until no host has work.
2. The time, in whole microseconds, then becomes that of the next operation, frame or deadline, which is
   rounded up.
3. After each call and poll of a host, the frames in its transmit buffers are put on their links.

It runs under wasmtime and in Pyodide, and knows neither; it imports the engine alone.
"""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import astuple
from typing import Any, Final

from tcpip_wasm.engine import Core, FrameBuffers, abi, split_records
from tcpip_wasm.engine.instance import Instance

MOST_STEPS: Final = 200_000
"""Iterations after which a scenario is taken for endless."""


def payload(data: str | list[int]) -> bytes:
    """Return what an operation sends.

    Args:
        data: hexadecimal; or the length and the salt of a pattern that shows what is lost, repeated or reordered.
    """
    if isinstance(data, str):
        return bytes.fromhex(data)
    return _pattern(*data)


@functools.lru_cache(maxsize=8)
def _pattern(length: int, salt: int) -> bytes:
    return bytes((at * 31 + (at >> 8) * 7 + (at >> 16) + salt) & 0xFF for at in range(length))


class _Socket:
    """A handle and its application, which reads what arrives unless it pauses, and writes what there is room for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.events: list[list[int]] = []
        self.received = bytearray()
        self.accepted = 0
        self.holds = self.pauses = self.connected = self.finishes = False
        self.unread = 0
        self.queue = b""


class _Host:
    def __init__(self, index: int, seed: list[int], now: int) -> None:
        self.index = index
        self.instance = Instance()
        self.core = Core(now=now / 1e6, seed=abi.SEED.pack(*seed), instance=self.instance)
        self.handles: dict[str, int] = {}
        self.sockets: dict[int, _Socket] = {}
        self.interfaces: dict[int, FrameBuffers] = {}  # by index, those that exist
        self.added = 0
        self.last = b""  # the latest frame that was sent
        self.has_work = True

    def add_interface(self, arguments: list[int], mac: bytes) -> FrameBuffers:
        """Make the calls of `Core.add_interface`, with the arguments that the ABI has."""
        self.core.calls.put_scratch(mac)
        handle = self.instance.calls["interface_add"](*arguments)
        block = self.instance.calls["interface_block"](handle)
        self.instance.refresh()
        return FrameBuffers(self.instance, handle, block // 4)

    @property
    def deadline(self) -> float:
        """Microseconds."""
        deadline = self.core.deadline
        return math.inf if deadline == math.inf else math.floor(deadline * 1e6) + 1


class Run:
    """One scenario.

    Args:
        numbers: of the ABI, see `suite`.
        scenario: compiled.
    """

    def __init__(self, numbers: dict[str, Any], scenario: dict[str, Any]) -> None:
        self._numbers = numbers
        self._scenario = scenario
        self._data_at = {event["kind"]: event["data"] for event in numbers["events"].values() if event["bytes"]}
        self._now: int = scenario["start"]
        self._frames, self._events = hashlib.sha256(), hashlib.sha256()
        self._hosts = [_Host(index, seed, self._now) for index, seed in enumerate(scenario["hosts"])]
        self._flying: list[tuple[int, int, list[int], bytes]] = []
        self._order = 0
        self._counts = [0] * len(scenario["links"])
        self._ends = {
            tuple(end): (number, link["ends"][1 - side])
            for number, link in enumerate(scenario["links"])
            for side, end in enumerate(link["ends"])
        }
        self._results: list[int] = []

    def run(self) -> dict[str, Any]:
        """Execute the scenario, and return what was seen."""
        operations = list(self._scenario["operations"])
        done = steps = 0
        while steps < MOST_STEPS:
            steps += 1
            busy = False
            while done < len(operations) and operations[done]["at"] <= self._now:
                self._execute(operations[done])
                done += 1
                busy = True
            self._deliver()
            for host in self._hosts:
                if host.has_work or host.core.more or host.core.soon or host.deadline <= self._now:
                    self._poll(host)
                    busy = True
            if busy:
                continue
            due = min(host.deadline for host in self._hosts)
            if done < len(operations):
                due = min(due, operations[done]["at"])
            if self._flying:
                due = min(due, self._flying[0][0])
            if due > self._scenario["until"]:
                break
            self._now = int(due)
        return self._seen(steps)

    def _seen(self, steps: int) -> dict[str, Any]:
        memories = hashlib.sha256()
        statistics = {}
        interfaces = {}
        handles = {}
        for host, name in zip(self._hosts, self._scenario["names"], strict=True):
            instance = host.instance
            statistics[name] = list(astuple(host.core.counted())[: len(self._numbers["statistics"])])
            for index, buffers in host.interfaces.items():
                interfaces[f"{name}.{index}"] = list(buffers.counters())
            for socket in host.sockets.values():
                digest = hashlib.sha256(socket.received).hexdigest()
                handles[f"{name}.{socket.name}"] = {"events": socket.events, "received": [len(socket.received), digest]}
            instance.refresh()
            memories.update(instance.memory[0 : len(instance.memory)])
        digests = {"frames": self._frames, "events": self._events, "memories": memories}
        return {
            "digests": {kind: digest.hexdigest() for kind, digest in digests.items()},
            "results": self._results,
            "handles": handles,
            "statistics": statistics,
            "interfaces": interfaces,
            "steps": steps,
        }

    # --- Operations -----------------------------------------------------------------------------------------------

    def _execute(self, operation: dict[str, Any]) -> None:
        host = self._hosts[operation["host"]]
        call, name = operation["call"], operation["name"]
        data = payload(operation.get("data", ""))
        result = 0
        if call == "interface":
            buffers = host.add_interface(operation["args"], bytes.fromhex(operation["scratch"]))
            host.handles[name] = result = buffers.handle
            if operation["args"][0] != abi.KIND_LOOPBACK:  # the module itself moves those frames
                host.interfaces[host.added] = buffers
            self._name(host, result, name)
            host.added += 1
        elif call == "inject":
            frame = bytearray(data)
            for source, length, target in operation["copy"]:
                frame[target : target + length] = host.last[source : source + length]
            buffers = next(each for each in host.interfaces.values() if each.handle == host.handles[name])
            result = int(buffers.receive_frame(bytes(frame)))
        elif call in ("write", "finish", "pause", "resume"):
            result = self._act(host, call, name, data)
        else:
            result = self._call(host, operation, data)
        self._results.append(result)
        self._note(self._events, f"{self._now} {host.index} {call} {result}\n".encode())
        host.has_work = True
        self._collect(host)

    def _act(self, host: _Host, call: str, name: str, data: bytes) -> int:
        socket = host.sockets.get(host.handles.get(name, 0))
        if socket is None:
            return abi.ERROR_BAD_HANDLE
        socket.queue += data
        socket.finishes = socket.finishes or call == "finish"
        if call in ("pause", "resume"):
            socket.pauses = call == "pause"
        self._push(host, socket)
        self._read(host, socket)
        return 0

    def _call(self, host: _Host, operation: dict[str, Any], data: bytes) -> int:
        scratch = bytearray.fromhex(operation["scratch"])
        for at, name in operation["handles"]:
            scratch[at : at + 4] = host.handles.get(name, 0).to_bytes(4, "little")
        if scratch:
            host.core.calls.put_scratch(bytes(scratch))
        if "data" in operation:
            host.core.calls.put_staging(data)
        arguments = [
            self._now / 1e6 if each == "now" else host.handles.get(each, 0) if isinstance(each, str) else each
            for each in operation["args"]
        ]
        result = host.instance.calls[operation["call"]](*arguments)
        host.instance.refresh()
        if operation["bind"] and result > 0:
            host.handles[operation["name"]] = result
            self._name(host, result, operation["name"]).holds = operation.get("hold", False)
        if operation["call"] == "interface_remove" and result >= 0:
            host.interfaces = {at: each for at, each in host.interfaces.items() if each.handle != arguments[0]}
        if "state" in operation:
            return int.from_bytes(host.core.calls.scratch(4), "little")
        return result

    def _name(self, host: _Host, handle: int, name: str) -> _Socket:
        socket = host.sockets[handle] = _Socket(name)
        return socket

    def _push(self, host: _Host, socket: _Socket) -> None:
        handle = host.handles[socket.name]
        while socket.connected and socket.queue:
            chunk = socket.queue[: abi.STAGING_CAPACITY]
            host.core.calls.put_staging(chunk)
            taken = host.instance.calls["tcp_send"](0.0, handle, len(chunk))
            host.instance.refresh()
            if taken < 0:
                return
            socket.queue = socket.queue[taken:]
            if taken < len(chunk):
                return
        if socket.connected and socket.finishes:
            socket.finishes = False
            host.instance.calls["tcp_shutdown"](handle)

    def _read(self, host: _Host, socket: _Socket) -> None:
        if socket.unread and not socket.pauses:
            host.instance.calls["tcp_received"](0.0, host.handles[socket.name], socket.unread)
            socket.unread = 0
            host.has_work = True

    # --- Polls and frames -----------------------------------------------------------------------------------------

    def _poll(self, host: _Host) -> None:
        host.has_work = False
        host.core.poll(self._now / 1e6)
        for kind, handle, value, payload in host.core.events():
            head = f"{self._now} {host.index} {kind} {handle} {value} {len(payload)}\n"
            self._note(self._events, head.encode(), payload)
            socket = host.sockets.get(handle)
            if socket is None:
                continue
            if kind not in (abi.EVENT_TRANSMIT, abi.EVENT_DATA, abi.EVENT_WRITABLE):
                socket.events.append([kind, 0 if kind in self._data_at or kind == abi.EVENT_ACCEPTED else value])
            if kind in self._data_at:
                at = self._data_at[kind]
                socket.received += payload[at : at + value]
            if kind == abi.EVENT_DATA:
                socket.unread += value
                self._read(host, socket)
            elif kind == abi.EVENT_ACCEPTED:
                socket.accepted += 1
                name = f"{socket.name}.{socket.accepted}"
                host.handles[name] = value
                self._name(host, value, name).connected = True
                if not socket.holds:
                    host.instance.calls["tcp_accepted"](value)
            elif kind in (abi.EVENT_CONNECTED, abi.EVENT_WRITABLE):
                socket.connected = True
                self._push(host, socket)
                host.has_work = True
            elif kind == abi.EVENT_CLOSED:
                socket.connected = False
        self._collect(host)

    def _collect(self, host: _Host) -> None:
        for index, buffers in host.interfaces.items():
            if not buffers.transmit_length:
                continue
            end = self._ends.get((host.index, index))
            frames = [bytes(frame) for frame in split_records(buffers.transmit_view())]
            buffers.transmitted(buffers.transmit_length)
            host.has_work = True  # the buffer may have refused segments
            for frame in frames:
                host.last = frame
                self._note(self._frames, f"{self._now} {host.index} {index} {len(frame)}\n".encode(), frame)
                if end is not None:
                    self._send(frame, *end)

    def _send(self, frame: bytes, number: int, to: list[int]) -> None:
        link = self._scenario["links"][number]
        count = self._counts[number]
        self._counts[number] += 1
        every = link["drop_every"]
        if count in link["drop"] or (every and count % every == every - 1):
            return
        if any(begin <= self._now < end for begin, end in link["down"]):
            return
        if str(count) in link["corrupt"]:
            at = link["corrupt"][str(count)]
            frame = frame[:at] + bytes(byte ^ 0xFF for byte in frame[at : at + 1]) + frame[at + 1 :]
        due = self._now + link["delay"] + link["late"].get(str(count), 0)
        for _ in range(2 if count in link["double"] else 1):
            self._flying.append((due, self._order, to, frame))
            self._order += 1
        self._flying.sort(key=lambda flight: flight[:2])

    def _deliver(self) -> None:
        while self._flying and self._flying[0][0] <= self._now:
            _, _, (host, index), frame = self._flying[0]
            buffers = self._hosts[host].interfaces.get(index)
            if buffers is not None and not buffers.receive_frame(frame):
                return  # after the next poll of this host
            del self._flying[0]
            self._hosts[host].has_work = True

    def _note(self, digest: Any, head: bytes, data: Any = b"") -> None:
        digest.update(head)
        digest.update(data)


def run_suite(suite: dict[str, Any]) -> dict[str, Any]:
    """Execute all scenarios, and return what was seen, by name."""
    return {name: Run(suite["abi"], scenario).run() for name, scenario in suite["scenarios"].items()}
