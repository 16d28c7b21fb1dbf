"""Scenarios: read from TOML, and compiled to operations that a runner executes without knowing names or layouts.

Owns the language of `scenarios/`. A compiled suite is JSON, so that each host gets the same; a runner resolves only
handles, which exist at run time. Knows no host.
"""

from __future__ import annotations

import tomllib
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from conformance.packets import build
from conformance.runner import payload

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = Path(__file__).parent / "scenarios"
START: Final = 1_000_000_000
"""Microseconds: the time at which a scenario begins."""

MTU: Final = 1500
DELAY: Final = 1.0
"""Milliseconds that a frame is under way, where a link does not say."""

SPECIAL: Final = ("write", "finish", "pause", "resume", "inject", "interface")
"""Operations of a runner that are no calls of the ABI."""

STATES: Final = (
    "CLOSED", "LISTEN", "SYN_SENT", "SYN_RCVD", "ESTABLISHED", "FIN_WAIT_1", "FIN_WAIT_2", "CLOSE_WAIT", "CLOSING",
    "LAST_ACK", "TIME_WAIT",
)  # fmt: skip
"""As lwIP numbers them: what ``state`` of tcp_information stands for."""

_SIZES: Final = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "i32": 4, "i64": 8}


class ScenarioError(Exception):
    """A scenario is not written as the language wants it."""


def load_abi() -> dict[str, Any]:
    """Return wasm/abi.toml."""
    return tomllib.loads((ROOT / "wasm" / "abi.toml").read_text(encoding="utf-8"))


def load() -> dict[str, Any]:
    """Return the compiled suite: numbers of the ABI, and the scenarios by name."""
    abi = load_abi()
    scenarios: dict[str, Any] = {}
    for path in sorted(FOLDER.glob("*.toml")):
        for name, scenario in tomllib.loads(path.read_text(encoding="utf-8")).items():
            full = f"{path.stem}/{name}"
            try:
                scenarios[full] = _Compiler(abi, scenario).compiled()
            except (KeyError, TypeError, ValueError) as error:
                raise ScenarioError(f"{full}: {type(error).__name__}: {error}") from error
    return {"abi": _numbers(abi), "scenarios": scenarios}


def _numbers(abi: dict[str, Any]) -> dict[str, Any]:
    """Return what a runner needs of the ABI."""
    words = {
        table: {word: at for at, word in enumerate(abi[table]["words"])} for table in ("control", "interface_block")
    }
    events = {
        name: {"kind": event["value"], "data": layout_size(abi, event["payload"]) if "payload" in event else 0}
        | {"bytes": event.get("bytes", False)}
        for name, event in abi["events"].items()
    }
    limits = {name: limit["value"] for name, limit in abi["limits"].items()}
    return {
        **words,
        "events": events,
        "limits": limits,
        "statistics": abi["statistics"]["words"],
        "more": abi["more"],
    } | {
        "errors": abi["errors"],
        "loopback": abi["interface_kind"]["LOOPBACK"],
    }


def field_size(abi: dict[str, Any], kind: str) -> int:
    """Return the bytes of a field of a layout."""
    if kind.startswith("bytes["):
        return int(kind[6:-1])
    return _SIZES[kind] if kind in _SIZES else layout_size(abi, kind)


def layout_size(abi: dict[str, Any], name: str) -> int:
    """Return the bytes of a layout."""
    return sum(field_size(abi, field[1]) for field in abi["layout"][name]["fields"])


def data_of(options: dict[str, Any]) -> str | list[int] | None:
    """Return what a runner needs of the payload that options describe: hexadecimal, or length and salt of a pattern."""
    if "text" in options:
        return str(options["text"]).encode().hex()
    if "bytes" in options:
        return [options["bytes"], options.get("salt", 0)]
    return options.get("hex")


def _packed(text: str, size: int) -> bytes:
    packed = bytes.fromhex(text.replace(":", "")) if size == 6 else ip_address(text).packed
    return packed.ljust(size, b"\0")


class _Compiler:
    """Compiles one scenario."""

    def __init__(self, abi: dict[str, Any], scenario: dict[str, Any]) -> None:
        self._abi = abi
        self._scenario = scenario
        self._operations: list[dict[str, Any]] = []
        self._hosts: list[str] = list(scenario["hosts"])
        self._interfaces: dict[str, tuple[int, int]] = {}  # by name: indices of host and interface
        self._sent: dict[str, list[Any]] = {}

    def compiled(self) -> dict[str, Any]:
        scenario = self._scenario
        unknown = set(scenario) - {"says", "hosts", "links", "link", "script", "until", "expect", "seed"}
        if unknown:
            raise ScenarioError(f"unknown keys {sorted(unknown)}")
        for host, interfaces in scenario["hosts"].items():
            self._add_host(host, interfaces)
        script = sorted(scenario["script"], key=lambda line: float(line[1]))
        for host, at, verb, *rest in script:
            name = rest[0] if rest and isinstance(rest[0], str) else ""
            options = rest[-1] if rest and isinstance(rest[-1], dict) else {}
            self._add(host, at, verb, name, options)
        return {
            "hosts": [[scenario.get("seed", 1) * 1000 + index, 0] for index in range(len(self._hosts))],
            "names": self._hosts,
            "links": self._links(),
            "start": START,
            "until": START + int(scenario["until"] * 1000),
            "operations": self._operations,
            "expect": scenario["expect"],
            "sent": self._sent,
        }

    def _add_host(self, host: str, interfaces: Any) -> None:
        if isinstance(interfaces, list):
            interfaces = {"tap": interfaces}
        for index, (name, interface) in enumerate(interfaces.items()):
            if isinstance(interface, list):
                interface = {"addresses": interface}
            number = self._hosts.index(host)
            self._interfaces[f"{host}.{name}"] = number, index
            kind = self._abi["interface_kind"][interface.get("kind", "TAP")]
            layer2 = kind in (self._abi["interface_kind"]["TAP"], self._abi["interface_kind"]["BRIDGE"])
            given = {"kind": kind, "mtu": interface.get("mtu", MTU), "ipv6": int(interface.get("ipv6", True))}
            mac = bytes([2, 0, 0, 0, number + 1, index + 1]) if layer2 else bytes(6)
            self._operations.append(
                {"at": START, "host": number, "call": "interface", "name": name, "scratch": mac.hex()}
                | {"args": [given[parameter] for parameter in self._abi["exports"]["interface_add"]["parameters"]]}
            )
            for address in interface.get("addresses", ()):
                text, _, prefix = address.partition("/")
                self._add(host, 0, "interface_address", name, {"address": text, "prefix": int(prefix)})

    def _links(self) -> list[dict[str, Any]]:
        scenario = self._scenario
        links = scenario.get("links")
        if links is None:
            both = [name for name in self._interfaces if name.endswith(".tap")]
            links = [{"between": both, **scenario.get("link", {})}] if len(both) == 2 else []
        return [
            {
                "ends": [list(self._interfaces[end]) for end in link["between"]],
                "delay": int(link.get("delay", DELAY) * 1000),
                "drop": link.get("drop", []),
                "drop_every": link.get("drop_every", 0),
                "double": link.get("double", []),
                "late": {str(number): int(by * 1000) for number, by in link.get("late", [])},
                "corrupt": {str(number): at for number, at in link.get("corrupt", [])},
                "down": [[START + int(1000 * one) for one in span] for span in link.get("down", [])],
            }
            for link in links
        ]

    def _add(self, host: str, at: float, verb: str, name: str, options: dict[str, Any]) -> None:
        operation: dict[str, Any] = {"at": START + int(at * 1000), "host": self._hosts.index(host), "call": verb}
        operation["name"] = name
        options = dict(options)
        data = data_of(options)
        if "error" in options:
            operation["error"] = self._abi["errors"][options.pop("error")]
        if "state" in options:
            operation["state"] = STATES.index(options.pop("state"))
        if verb == "inject":
            operation |= {"data": build(options).hex(), "copy": options.get("copy", [])}
        elif verb in SPECIAL:
            operation["data"] = data or ""
            if verb == "write":
                self._sent.setdefault(f"{host}.{name}", []).append(data)
        else:
            operation |= self._call(verb, name, options, data)
        self._operations.append(operation)

    def _call(self, verb: str, name: str, options: dict[str, Any], data: str | list[int] | None) -> dict[str, Any]:
        export = self._abi["exports"][verb]
        parameters = list(export["parameters"])
        known = {"text", "hex", "bytes", "salt", "hold", *parameters}
        scratch, handles = b"", []
        fields = self._abi["layout"][export["scratch"]]["fields"] if "scratch" in export else []
        addresses = [options[field[0]] for field in fields if field[1] == "bytes[16]" and field[0] in options]
        family = int(ip_address(addresses[0]).version) if addresses else 0
        if "has_endpoint" in parameters and not addresses:
            fields = []
        for field, kind, *_ in fields:
            known.add(field)
            size = field_size(self._abi, kind)
            value = options.get(field, family if field == "family" else 0)
            if kind.startswith("bytes["):
                scratch += _packed(value, size) if value else bytes(size)
                continue
            if isinstance(value, str):
                handles.append([len(scratch), value])
                value = 0
            scratch += int(value).to_bytes(size, "little", signed=kind.startswith("i"))
        if set(options) - known:
            raise ScenarioError(f"{verb} does not have {sorted(set(options) - known)}")
        arguments = [self._argument(parameter, options, name, family, data) for parameter in parameters]
        if "has_endpoint" in parameters:
            arguments[parameters.index("has_endpoint")] = int(bool(addresses))
        operation: dict[str, Any] = {"args": arguments, "scratch": scratch.hex(), "handles": handles}
        if "staging" in export:
            operation["data"] = data or ""
        if options.get("hold"):
            operation["hold"] = True
        return operation | {"bind": bool(name) and "handle" not in parameters}

    def _argument(
        self, parameter: str, options: dict[str, Any], name: str, family: int, data: str | list[int] | None
    ) -> Any:
        value = options.get(parameter)
        if parameter == "option":
            return self._abi["option"][value]
        if parameter == "kind":
            return self._abi["interface_kind"][value]
        if value is not None:
            return value
        defaults = {"handle": name, "family": family, "length": len(payload(data or ""))}
        return defaults.get(parameter, 0)
