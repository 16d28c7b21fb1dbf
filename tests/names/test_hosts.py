"""The hosts table."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcpip_wasm import HostsTable

FILE = """\
# a comment, an empty line, and a comment behind an entry

127.0.0.1   localhost
::1         localhost ip6-localhost
10.0.0.5\tdb.example DB # the data base
10.0.0.6    db.example
"""


def test_mapping() -> None:
    hosts = HostsTable()
    hosts["db"] = "10.0.0.5"
    hosts["Web.Example."] = ["10.0.0.6", IPv6Address("fd00::6"), "10.0.0.6"]
    assert hosts["DB."] == (IPv4Address("10.0.0.5"),)
    assert hosts["web.example"] == (IPv4Address("10.0.0.6"), IPv6Address("fd00::6"))
    assert list(hosts) == ["db", "web.example"]
    assert len(hosts) == 2
    assert "WEB.example" in hosts
    assert "other" not in hosts
    assert "no..name" not in hosts
    hosts["db"] = "10.0.0.7"
    assert hosts["db"] == (IPv4Address("10.0.0.7"),)
    assert hosts.names_of("10.0.0.5") == ()
    del hosts["db"]
    with pytest.raises(KeyError, match="db"):
        hosts["db"]
    with pytest.raises(KeyError, match="db"):
        del hosts["db"]


def test_internationalized_names() -> None:
    hosts = HostsTable()
    hosts["Bücher.example"] = "10.0.0.5"
    assert hosts["xn--bcher-kva.example"] == hosts["bücher.EXAMPLE"] == (IPv4Address("10.0.0.5"),)


def test_aliases_and_reverse() -> None:
    hosts = HostsTable()
    hosts.add("10.0.0.5", "db.example", "db", "data")
    hosts.add("fd00::5", "db.example")
    hosts.add("10.0.0.5", "other")
    assert hosts["data"] == (IPv4Address("10.0.0.5"),)
    assert hosts["db.example"] == (IPv4Address("10.0.0.5"), IPv6Address("fd00::5"))
    assert hosts.canonical("DB") == "db.example"
    assert hosts.names_of("10.0.0.5") == ("db.example", "db", "data", "other")
    del hosts["db.example"]
    assert hosts.names_of(ip_address("10.0.0.5")) == ("db", "data", "other")
    assert hosts.names_of("fd00::5") == ()


@pytest.mark.parametrize("form", ["path", "text of path", "text"])
def test_load(form: str, tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text(FILE, encoding="utf-8")
    hosts = HostsTable()
    forms: dict[str, str | Path] = {"path": path, "text of path": str(path), "text": FILE}
    assert hosts.load(forms[form]) == 4
    assert hosts["localhost"] == (IPv4Address("127.0.0.1"), IPv6Address("::1"))
    assert hosts["ip6-localhost"] == (IPv6Address("::1"),)
    assert hosts["db.example"] == (IPv4Address("10.0.0.5"), IPv4Address("10.0.0.6"))
    assert hosts["db"] == (IPv4Address("10.0.0.5"),)
    assert hosts.canonical("db") == "db.example"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("10.0.0.5", "an address without a name"),
        ("10.0.0.256 db", "10.0.0.256"),
        ("db 10.0.0.5", "'db' is not an IP address"),
        ("10.0.0.5 d_b..example", "d_b..example"),
        ("10.0.0.5 " + "x" * 64, "xxxx"),
        ("10.0.0.5 10.0.0.6", "10.0.0.6"),
        ("10.0.0.5 localhost", "always this host"),
    ],
)
def test_malformed_lines(line: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text(f"10.0.0.1 good\n\n{line}\n", encoding="utf-8")
    hosts = HostsTable()
    with pytest.raises(ValueError, match=r"hosts, line 3: ") as caught:
        hosts.load(path)
    assert why in str(caught.value)
    assert len(hosts) == 0
    with pytest.raises(ValueError, match=r"<text>, line 1: "):
        hosts.load(line + "\n")
    with pytest.raises(FileNotFoundError):
        hosts.load(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "addresses", "error"),
    [
        ("db", "10.0.0", ValueError),
        ("db", [], ValueError),
        ("db", 5, TypeError),
        ("db", [5], TypeError),
        ("db", b"10.0.0.5", TypeError),
        ("", "10.0.0.5", ValueError),
        ("a b", "10.0.0.5", ValueError),
        ("-a", "10.0.0.5", ValueError),
        (5, "10.0.0.5", TypeError),
        ("localhost", "10.0.0.5", ValueError),
        ("printer.LOCALHOST.", "10.0.0.5", ValueError),
    ],
)
def test_mistakes(name: Any, addresses: Any, error: type[Exception]) -> None:
    hosts = HostsTable()
    with pytest.raises(error, match=r"name|host|address"):
        hosts[name] = addresses
    assert len(hosts) == 0


@given(st.text())
def test_random_text_as_a_file(text: str) -> None:
    hosts = HostsTable()
    try:
        count = hosts.load(text + "\n")
    except ValueError as error:
        assert "<text>, line " in str(error)  # noqa: PT017
    else:
        assert count >= len({address for addresses in hosts.values() for address in addresses})
