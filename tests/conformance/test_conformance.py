"""The conformance suite on the hosts of this machine, and the suite itself.

Browsers and Pyodide belong to `make test-conformance`; a host that is not installed is skipped with the reason.
"""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest

from conformance.check import different, read_digests, shipped_module, unexpected
from conformance.hosts import HOSTS, HostMissingError
from conformance.runner import MOST_STEPS, Run
from conformance.suite import FOLDER, ScenarioError, _Compiler, load, load_abi
from tcpip_wasm.engine.binary import MODULE_PATH

LEAST = 40
"""Scenarios."""

BINARY = MODULE_PATH.read_bytes()


@pytest.fixture(scope="session")
def suite() -> dict[str, Any]:
    return load()


@pytest.fixture(scope="session")
def reference(suite: dict[str, Any]) -> dict[str, Any]:
    """What wasmtime has seen."""
    return HOSTS["wasmtime"](suite, MODULE_PATH)


def test_wasmtime(suite: dict[str, Any], reference: dict[str, Any]) -> None:
    assert len(reference) >= LEAST
    assert unexpected(suite, reference) == []
    assert different(BINARY, reference) == []


@pytest.mark.parametrize(
    "host",
    [pytest.param(name, marks=[] if "node" in name else pytest.mark.hosts) for name in HOSTS if name != "wasmtime"],
)
def test_host(host: str, suite: dict[str, Any], reference: dict[str, Any]) -> None:
    try:
        seen = HOSTS[host](suite, MODULE_PATH)
    except HostMissingError as error:
        if os.environ.get("TCPIP_WASM_REQUIRE_PEERS") == "1":
            pytest.fail(f"a real peer is required: {error}", pytrace=False)
        pytest.skip(str(error))
    assert unexpected(suite, seen) == []
    assert different(BINARY, seen, reference) == []
    assert seen == json.loads(json.dumps(reference)), "what is not in a digest is equal, too"


def test_a_missing_host_is_said(suite: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for host in ("node", "chromium", "firefox"):
        with pytest.raises(HostMissingError, match=f"{host} is not installed"):
            HOSTS[host](suite, MODULE_PATH)


def test_memories_are_of_the_module_that_ships() -> None:
    assert read_digests()["module"] == shipped_module(), "make release; python -m conformance --take"


def test_each_call_of_the_module_is_made(suite: dict[str, Any]) -> None:
    made = {operation["call"] for one in suite["scenarios"].values() for operation in one["operations"]}
    made |= {
        "start",
        "poll",
        "statistics",
        "interface_add",
        "interface_block",
        "tcp_send",
        "tcp_received",
    }  # by runners
    assert set(load_abi()["exports"]) - made == set()


def test_each_scenario_expects_something(suite: dict[str, Any]) -> None:
    assert [name for name, one in suite["scenarios"].items() if not any(one["expect"].values())] == []


def test_a_difference_is_found(suite: dict[str, Any], reference: dict[str, Any]) -> None:
    name = "tcp/exchange"
    seen = copy.deepcopy(reference)
    seen[name]["digests"]["frames"] = "0" * 64
    assert [line.split(" is ")[0] for line in different(BINARY, seen)] == [f"{name}: the digest of frames"]
    seen[name]["digests"]["memories"] = "0" * 64
    assert len(different(b"another build", seen, reference)) == 2
    assert len(different(b"another build", seen)) == 1, "without a host to compare with"
    del seen["tcp/bulk"]
    assert "tcp/bulk: recorded, and not run" in different(BINARY, seen)
    assert "tcp/bulk: not run" in unexpected(suite, seen)


def test_what_is_not_as_expected_is_found(suite: dict[str, Any], reference: dict[str, Any]) -> None:
    name = "tcp/exchange"
    seen = copy.deepcopy(reference)
    seen[name]["handles"]["a.c"]["received"][1] = "0" * 64
    seen[name]["handles"]["b.l"]["events"] = []
    seen[name]["results"][-1] = -1
    seen[name]["steps"] = MOST_STEPS
    found = "\n".join(unexpected(suite, seen))
    for text in ("a.c: text is '6 other bytes'", "b.l: events is []", "BAD_HANDLE, not success", "endless"):
        assert text in found
    assert len(found.splitlines()) == 4


def scenario(**changes: Any) -> dict[str, Any]:
    return {"hosts": {"a": ["10.0.0.1/24"]}, "until": 100, "script": [], "expect": {}, **changes}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"unknown": 1}, "unknown keys"),
        ({"script": [["a", 0, "tcp_connect", "c", {"remote": "10.0.0.2", "colour": 1}]]}, "colour"),
        ({"script": [["a", 0, "no_such_call"]]}, "no_such_call"),
        ({"script": [["b", 0, "statistics"]]}, "'b'"),
        ({"script": [["a", 0, "statistics", {"error": "NO_SUCH_ERROR"}]]}, "NO_SUCH_ERROR"),
        ({"hosts": {"a": ["10.0.0.256/24"]}}, "10.0.0.256"),
        ({"links": [{"between": ["a.tap", "b.tap"]}]}, "b.tap"),
    ],
)
def test_a_wrong_scenario_is_refused(changes: dict[str, Any], error: str) -> None:
    with pytest.raises((ScenarioError, KeyError, ValueError), match=error):
        _Compiler(load_abi(), scenario(**changes)).compiled()


def test_an_endless_scenario_ends(suite: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("conformance.runner.MOST_STEPS", 3)
    monkeypatch.setattr("conformance.check.MOST_STEPS", 3)
    one = {"abi": suite["abi"], "scenarios": {"one": suite["scenarios"]["tcp/exchange"]}}
    found = unexpected(one, {"one": Run(suite["abi"], one["scenarios"]["one"]).run()})
    assert "one: endless" in found
    assert "one: operations after the end" in found


def test_scenarios_explain_themselves() -> None:
    import tomllib

    for path in FOLDER.glob("*.toml"):
        assert all(one["says"] for one in tomllib.loads(path.read_text(encoding="utf-8")).values())
