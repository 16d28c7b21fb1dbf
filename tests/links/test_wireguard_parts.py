"""The parts of WireGuard that need no peer: ciphers, window, addresses, limits, files of configuration."""

from __future__ import annotations

import io
import subprocess
from ipaddress import ip_address, ip_network
from pathlib import Path
from random import Random

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given
from hypothesis import strategies as st

from tcpip_wasm.cli import main
from tcpip_wasm.links import WireGuardPeer, read_wireguard_configuration
from tcpip_wasm.links.wireguard.allowed_addresses import AllowedAddresses
from tcpip_wasm.links.wireguard.cookies import decrypt_extended, encrypt_extended, hchacha20
from tcpip_wasm.links.wireguard.keys import key_text, new_private_key, parse_key, public_key
from tcpip_wasm.links.wireguard.rate_limit import HANDSHAKES_PER_SECOND, LoadMeter, SourceLimit
from tcpip_wasm.links.wireguard.replay import WINDOW, ReplayWindow


def test_hchacha20_gives_the_drafts_subkey() -> None:
    """draft-irtf-cfrg-xchacha-03, section 2.2.1."""
    subkey = hchacha20(bytes(range(32)), bytes.fromhex("000000090000004a0000000031415927"))
    assert subkey.hex() == "82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"


def test_xchacha20_poly1305_gives_the_drafts_text() -> None:
    """draft-irtf-cfrg-xchacha-03, appendix A.3.1."""
    text = (
        b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen "
        b"would be it."
    )
    associated = bytes.fromhex("50515253c0c1c2c3c4c5c6c7")
    key, nonce = bytes(range(0x80, 0xA0)), bytes(range(0x40, 0x58))
    encrypted = encrypt_extended(key, nonce, text, associated)
    assert encrypted.hex() == (
        "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c2"
        "16cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615c6"
        "8b13b52ec0875924c1c7987947deafd8780acf49"
    )
    assert decrypt_extended(key, nonce, encrypted, associated) == text
    with pytest.raises(InvalidTag):
        decrypt_extended(key, nonce, encrypted, b"")


# --- The window ---------------------------------------------------------------------------------------------------


class AllNumbers:
    """The window as it is defined, with a set of all numbers."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def add(self, number: int) -> bool:
        late = bool(self.seen) and max(self.seen) - number > WINDOW
        if late or number in self.seen:
            return False
        self.seen.add(number)
        return True


@given(
    st.lists(
        st.one_of(
            st.integers(0, 300),
            st.integers(0, 20_000),
            st.sampled_from([0, 1, 63, 64, 65, WINDOW - 1, WINDOW, WINDOW + 1, 8191, 8192, 8193, 2**40, 2**40 + 1]),
        ),
        max_size=80,
    )
)
def test_the_window_is_the_set_of_numbers(numbers: list[int]) -> None:
    window, model = ReplayWindow(), AllNumbers()
    for number in numbers:
        fresh = window.is_new(number)
        assert window.add(number) == fresh == model.add(number), number


def test_numbers_in_any_order_within_the_window_pass_once() -> None:
    window, random = ReplayWindow(), Random(1)
    numbers = list(range(WINDOW))
    random.shuffle(numbers)
    assert all(window.add(number) for number in numbers)
    assert not any(window.add(number) for number in numbers)
    assert window.add(2 * WINDOW)
    assert window.add(WINDOW)
    assert not window.add(WINDOW - 1)


def test_moving_the_window_clears_what_it_leaves() -> None:
    """The ring has the same word for numbers 8192 apart."""
    window = ReplayWindow()
    for number in range(0, 100_000, 8192):
        assert window.add(number)
        assert window.add(number + 1)
    assert window.add(10**12)
    for late in range(1, WINDOW + 1):
        assert window.is_new(10**12 - late)


# --- Allowed addresses --------------------------------------------------------------------------------------------


def test_the_longest_prefix_decides() -> None:
    random = Random(2)
    table: AllowedAddresses[str] = AllowedAddresses()
    prefixes = {ip_network("0.0.0.0/0"): "all", ip_network("::/0"): "all6"}
    for number in range(300):
        base = random.randbytes(4) if number % 2 else b"\xfd" + random.randbytes(2) + bytes(13)
        length = random.randint(1, 12) if number % 2 else random.randint(8, 24)
        prefixes[ip_network((int.from_bytes(base), length) if number % 2 else (base, length), strict=False)] = str(
            number
        )
    for prefix, owner in prefixes.items():
        table.add(prefix, owner)
    for _ in range(2):  # the second time from the cache
        random.seed(3)
        for number in range(3000):
            raw = random.randbytes(4) if number % 2 else b"\xfd" + random.randbytes(15)
            address = ip_address(raw)
            fitting = [each for each in prefixes if each.version == address.version and address in each]
            assert table.find(raw) == prefixes[max(fitting, key=lambda each: each.prefixlen)]


def test_a_prefix_belongs_to_the_last_that_named_it() -> None:
    table: AllowedAddresses[str] = AllowedAddresses()
    prefix = ip_network("10.0.0.0/8")
    table.add(prefix, "a")
    assert table.find(bytes([10, 0, 0, 1])) == "a"
    table.add(prefix, "b")
    assert table.find(bytes([10, 0, 0, 1])) == "b"
    table.remove_owner("a")
    assert table.find(bytes([10, 0, 0, 1])) == "b"
    table.remove_owner("b")
    assert table.find(bytes([10, 0, 0, 1])) is None
    assert table.find(bytes(16)) is None


def test_a_scan_of_addresses_does_not_grow_the_cache() -> None:
    table: AllowedAddresses[str] = AllowedAddresses()
    table.add(ip_network("0.0.0.0/0"), "a")
    for number in range(20_000):
        table.find(number.to_bytes(4))
    assert len(table._cache) <= 4096


# --- Limits -------------------------------------------------------------------------------------------------------


def test_load_begins_above_fifty_a_second_and_ends_a_second_after() -> None:
    meter = LoadMeter()
    assert not any(meter.is_under_load(number / 100) for number in range(HANDSHAKES_PER_SECOND))
    assert meter.is_under_load(0.6)
    assert meter.is_under_load(1.5)
    assert not meter.is_under_load(1.7)


def test_a_source_has_five_at_once_and_twenty_a_second() -> None:
    limit = SourceLimit()
    assert [limit.allows(b"host", 1.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert limit.allows(b"else", 1.0)
    assert sum(limit.allows(b"host", 1.0 + number / 100) for number in range(1, 101)) == pytest.approx(20, abs=1)
    for number in range(10_000):
        limit.allows(number.to_bytes(4), 3.0)
    assert len(limit._buckets) <= 4096


# --- Keys and configuration ---------------------------------------------------------------------------------------


def test_keys_are_text_or_bytes() -> None:
    private = new_private_key()
    assert parse_key("key", key_text(private)) == parse_key("key", private) == private
    assert parse_key("key", f" {key_text(private)}\n") == private
    for wrong in ("", "secret", key_text(private)[:-1], key_text(private)[:-4], b"short", "é" * 44):
        with pytest.raises(ValueError, match="key: a key") as caught:
            parse_key("key", wrong)
        assert str(wrong) not in str(caught.value) or not wrong
    with pytest.raises(TypeError):
        parse_key("key", 5)  # type: ignore[arg-type]


def test_the_command_makes_keys(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["wg", "genkey"]) == 0
    private = capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO(private))
    assert main(["wg", "pubkey"]) == 0
    assert capsys.readouterr().out == key_text(public_key(parse_key("key", private))) + "\n"
    assert main(["wg", "genpsk"]) == 0
    assert len(parse_key("key", capsys.readouterr().out)) == 32
    monkeypatch.setattr("sys.stdin", io.StringIO("nonsense"))
    assert main(["wg", "pubkey"]) == 1
    assert "nonsense" not in capsys.readouterr().err


_KEY = key_text(bytes(range(32)))
_OTHER = key_text(bytes(range(1, 33)))
_FILE = f"""
# a comment
[Interface]
PrivateKey = {_KEY}   # another
Address = 10.8.0.1/24, fd08::1/64
Address = 10.9.0.1/24
ListenPort = 51820
MTU = 1380
DNS = 10.8.0.53, lab.example
PostUp = iptables -A FORWARD -i %i -j ACCEPT

[Peer]
PublicKey={_OTHER}
PresharedKey = {_KEY}
AllowedIPs = 10.8.0.2/32, fd08::2/128
allowedips = 192.0.2.0/24
Endpoint = [2001:db8::1]:51821
PersistentKeepalive = 25

[Peer]
PublicKey = {key_text(bytes(range(2, 34)))}
Endpoint = vpn.example:443
PersistentKeepalive = off
"""


def test_a_configuration_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "wg0.conf"
    path.write_text(_FILE)
    found = read_wireguard_configuration(path)
    assert found == read_wireguard_configuration(_FILE) == read_wireguard_configuration(str(path))
    assert (found.private_key, found.listen_port, found.mtu) == (_KEY, 51820, 1380)
    assert [str(each) for each in found.addresses] == ["10.8.0.1/24", "fd08::1/64", "10.9.0.1/24"]
    assert found.dns == ("10.8.0.53", "lab.example")
    assert found.peers[0] == WireGuardPeer(
        public_key=_OTHER,
        preshared_key=_KEY,
        allowed_ips=["10.8.0.2/32", "fd08::2/128", "192.0.2.0/24"],
        endpoint=("2001:db8::1", 51821),
        keepalive=25,
    )
    assert found.peers[1].endpoint == ("vpn.example", 443)
    assert found.peers[1].keepalive is None
    assert _KEY not in repr(found)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (f"PrivateKey = {_KEY}", "PrivateKey = secret", "line 4: privatekey"),
        (f"PrivateKey = {_KEY}", "ListenPort = 1", "line 7: 'listenport' is there twice"),
        ("ListenPort = 51820", "ListenPort = 65536", "line 7: listenport"),
        ("ListenPort = 51820", "ListenPort = ٣", "line 7: listenport"),
        ("MTU = 1380", "Mtu", "line 8: a section or NAME"),
        ("MTU = 1380", "Colour = red", "line 8: 'colour'"),
        ("10.8.0.2/32", "10.8.0.2/33", "line 15"),
        ("[2001:db8::1]:51821", "2001:db8::1:51821", "line 17: endpoint"),
        ("[2001:db8::1]:51821", "host", "line 17: endpoint"),
        ("= 25", "= -1", "line 18: persistentkeepalive"),
        (f"PublicKey={_OTHER}\n", "", "PublicKey is needed"),
        ("[Interface]", "[Elsewhere]", "line 3"),
    ],
)
def test_a_malformed_configuration_is_refused_with_its_line(old: str, new: str, problem: str) -> None:
    assert old in _FILE
    with pytest.raises(ValueError, match=problem) as caught:
        read_wireguard_configuration(_FILE.replace(old, new, 1))
    assert _KEY not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"public_key": "short"},
        {"preshared_key": b"short"},
        {"keepalive": 0},
        {"keepalive": 65536},
        {"endpoint": ("host", 0)},
        {"endpoint": ("", 1)},
        {"allowed_ips": ["10.0.0.0/40"]},
        {"allowed_ips": "10.0.0.0/8"},
    ],
)
def test_a_malformed_peer_is_refused(options: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        WireGuardPeer(**({"public_key": _KEY} | options))  # type: ignore[arg-type]
    assert _KEY not in repr(WireGuardPeer(public_key=_OTHER, preshared_key=_KEY))


def test_wg_derives_the_same_public_key() -> None:
    private = new_private_key()
    try:
        done = subprocess.run(
            ["wg", "pubkey"], input=key_text(private), capture_output=True, text=True, check=True, timeout=30
        )
    except FileNotFoundError:
        pytest.skip("the program wg is not installed")
    assert done.stdout.strip() == key_text(public_key(private))
