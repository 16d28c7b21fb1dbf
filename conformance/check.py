"""What a host has seen, compared with a scenario's expectations and with the digests of other hosts.

Owns `digests.json`. Digests of frames and events hold for every build of the module; those of memories hold for the one
whose SHA-256 stands beside them, since an optimiser moves what lies in memory.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

from conformance.runner import MOST_STEPS, payload
from conformance.suite import ROOT, load_abi

DIGESTS: Final = Path(__file__).parent / "digests.json"
ALWAYS: Final = ("frames", "events")


def read_digests() -> dict[str, Any]:
    """Return the recorded digests."""
    return dict(json.loads(DIGESTS.read_text(encoding="utf-8")))


def shipped_module() -> str:
    """Return the SHA-256 of the module that ships, of which memories are recorded."""
    return (ROOT / "wasm" / "golden" / "release-sha256.txt").read_text(encoding="utf-8").split()[0]


def write_digests(module: bytes, seen: dict[str, Any]) -> None:
    """Record the digests that one host has seen with a module."""
    recorded = {
        "module": hashlib.sha256(module).hexdigest(),
        "scenarios": {name: scenario["digests"] for name, scenario in sorted(seen.items())},
    }
    DIGESTS.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")


def unexpected(suite: dict[str, Any], seen: dict[str, Any]) -> list[str]:
    """Return how what a host has seen differs from the expectations of the scenarios."""
    names = _Names(load_abi())
    found = []
    for name, scenario in suite["scenarios"].items():
        if name not in seen:
            found.append(f"{name}: not run")
            continue
        found += [f"{name}: {text}" for text in _differences(names, scenario, seen[name])]
    return found


def different(module: bytes, seen: dict[str, Any], reference: dict[str, Any] | None = None) -> list[str]:
    """Return which digests differ from the recorded ones.

    Args:
        module: the binary that the host ran.
        seen: what the host has seen.
        reference: what another host has seen with the same module; it stands in for digests of memories that are
            recorded for another module.
    """
    recorded = read_digests()
    same_module = hashlib.sha256(module).hexdigest() == recorded["module"]
    found = []
    for name in sorted({*seen, *recorded["scenarios"]}):
        if name not in seen or name not in recorded["scenarios"]:
            found.append(f"{name}: {'no digest is recorded' if name in seen else 'recorded, and not run'}")
            continue
        wanted = dict(recorded["scenarios"][name])
        if not same_module:
            wanted["memories"] = reference[name]["digests"]["memories"] if reference else None
        for kind, digest in wanted.items():
            if digest is not None and digest != seen[name]["digests"][kind]:
                found.append(f"{name}: the digest of {kind} is {seen[name]['digests'][kind][:16]}, not {digest[:16]}")
    return found


class _Names:
    """Names of the ABI's numbers."""

    def __init__(self, abi: dict[str, Any]) -> None:
        self.errors = {-value: name for name, value in abi["errors"].items()}
        self.states = {value: name for name, value in abi["address_state"].items()}
        self.events = {event["value"]: name for name, event in abi["events"].items()}
        self.statistics: list[str] = abi["statistics"]["words"]

    def event(self, kind: int, value: int) -> str:
        """Return an event as expectations write it: its name, and the value where that means something."""
        name = self.events[kind]
        if name == "ADDRESS":
            return f"{name} {self.states[value]}"
        if name in ("CLOSED", "DATAGRAM_ERROR"):
            return f"{name} {self.errors[value]}" if value else name
        return f"{name} {value >> 8}/{value & 0xFF}" if name == "ECHO_ERROR" else name


COUNTERS: Final = ("received", "transmitted", "malformed", "full", "foreign", "long")


def _differences(names: _Names, scenario: dict[str, Any], seen: dict[str, Any]) -> list[str]:
    found = []
    if seen["steps"] >= MOST_STEPS:
        found.append("endless")
    for number, (operation, result) in enumerate(zip(scenario["operations"], seen["results"], strict=False)):
        wanted = operation.get("error", operation.get("state"))
        if (result < 0) if wanted is None else (result != wanted):
            text = names.errors.get(-result, result)
            found.append(
                f"operation {number}, {operation['call']} {operation['name']}: {text}, not {wanted or 'success'}"
            )
    if len(seen["results"]) != len(scenario["operations"]):
        found.append("operations after the end")
    for subject, wanted in scenario["expect"].items():
        actual = _actual(names, scenario, seen, subject, wanted)
        found += [
            f"{subject}: {key} is {actual[key]!r}, not {value!r}"
            for key, value in wanted.items()
            if actual[key] != value
        ]
    return found


def _actual(
    names: _Names, scenario: dict[str, Any], seen: dict[str, Any], subject: str, wanted: dict[str, Any]
) -> dict[str, Any]:
    """Return what a host has seen of a subject, in the form of an expectation."""
    if subject in scenario["names"]:
        return dict(zip(names.statistics, seen["statistics"][subject], strict=True))
    if subject in seen["interfaces"]:
        return dict(zip(COUNTERS, seen["interfaces"][subject], strict=True))
    handle = seen["handles"].get(subject, {"events": [], "received": [0, ""]})  # a connection that was not accepted
    length, digest = handle["received"]
    actual: dict[str, Any] = {"events": [names.event(*event) for event in handle["events"]], "received": length}
    for key, value in (("text", str(wanted.get("text")).encode()), ("same", _sent(scenario, wanted.get("same")))):
        same = len(value) == length and hashlib.sha256(value).hexdigest() == digest
        actual[key] = wanted.get(key) if same else f"{length} other bytes"
    return actual


def _sent(scenario: dict[str, Any], source: str | None) -> bytes:
    return b"".join(map(payload, scenario["sent"].get(source, [])))
