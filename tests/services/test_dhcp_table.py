"""The lease table under any order of calls: no address has two owners, and none is lost."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from hypothesis import given, settings
from hypothesis import strategies as st

from tcpip_wasm.services.dhcp.table import MAX_PER_MAC, DhcpLease, LeaseTable, Pool

_SIZE = 8
_FIRST = IPv4Address("10.0.0.100")
_POOL = Pool(_FIRST, _FIRST + _SIZE - 1, IPv4Network("10.0.0.0/24"), None)
_RESERVED = {"02:00:00:00:00:01": IPv4Address("10.0.0.5"), "02:00:00:00:00:02": _FIRST + 3}
_OWN = frozenset({IPv4Address("10.0.0.1"), _FIRST + 5})

_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["discover", "request", "take any", "release", "decline", "wait", "reject", "give up"]),
        st.integers(0, 11),  # the client
        st.integers(0, 5),  # its hardware address
        st.integers(0, _SIZE),
    ),
    max_size=80,
)


def check(table: LeaseTable, chosen: set[IPv4Address]) -> None:
    """Assert what always holds."""
    owners = [set(table._leases), set(table._offers), set(table._declined), table._chosen]
    for at, one in enumerate(owners):
        for other in owners[at + 1 :]:
            assert not one & other, (owners, chosen)
    assert not set(table._used[_POOL]) & set(table._leases)
    assert {lease.identity: address for address, lease in table._leases.items()} == table._by_client
    assert {
        identity: address for address, identity in ((a, o.identity) for a, o in table._offers.items())
    } == table._offered_to
    counts: dict[str, int] = {}
    for lease in table._leases.values():
        counts[lease.mac] = counts.get(lease.mac, 0) + 1
    assert counts == table._per_mac
    assert all(count <= MAX_PER_MAC for count in counts.values())
    assert table._chosen <= chosen


@settings(max_examples=300)
@given(_STEPS)
def test_any_order_of_calls(steps: list[tuple[str, int, int, int]]) -> None:
    table = LeaseTable((_POOL,), _RESERVED, _OWN)
    now = 0.0
    for step, number, hardware, offset in steps:
        identity, mac, wanted = b"id%d" % number, f"02:00:00:00:00:0{hardware}", _FIRST + offset
        if step in ("discover", "give up"):
            address = table.choose(identity, mac, wanted if offset < _SIZE else None, _POOL, now)
            if address is not None:
                assert address not in _OWN
                assert address == _RESERVED[mac] if mac in _RESERVED else address not in _RESERVED.values()
                check(table, {address})
                if step == "give up":
                    table.put_back(address)
                else:
                    table.offer(address, identity, now)
        elif step in ("request", "take any"):
            offered = table._offered_to.get(identity, wanted) if step == "request" else wanted
            if table.may_have(offered, identity, mac, _POOL):
                table.grant(DhcpLease(offered, mac, None, now + 100, identity, now))
                lease = table.lease_of(identity)
                assert lease is not None
                assert lease.address == offered
        elif step == "release":
            table.release(wanted)
        elif step == "decline" and table.holds(identity, wanted):
            table.decline(wanted, now)
        elif step == "reject":
            table.reject_offer(identity)
        elif step == "wait":
            now += 40.0 * (1 + offset)
            table.expire(now)
        check(table, set())
    # After all has ended, as many clients get an address as there are addresses.
    now += 10_000.0
    table.expire(now)
    assert not table.leases(now)
    found = set()
    for number in range(_SIZE):
        identity, mac = b"late%d" % number, f"02:00:00:00:01:{number:02x}"
        address = table.choose(identity, mac, None, _POOL, now)
        if address is not None:
            table.grant(DhcpLease(address, mac, None, now + 100, identity, now))
            found.add(address)
    free = {_FIRST + n for n in range(_SIZE)} - _OWN - set(_RESERVED.values())
    assert found == free
