"""The cache: a bounded number of entries, which expire."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tcpip_wasm.names.cache import Cache


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_entries_expire() -> None:
    clock = Clock()
    cache: Cache[str] = Cache(10, clock)
    cache.put("a", "1", 5)
    clock.now += 4.999
    assert cache.get("a") == "1"
    clock.now += 0.001
    assert cache.get("a") is None
    assert len(cache) == 0


def test_a_ttl_of_zero_is_not_cached() -> None:
    cache: Cache[str] = Cache(10, Clock())
    cache.put("a", "1", 5)
    cache.put("a", "2", 0)
    assert cache.get("a") is None
    empty: Cache[str] = Cache(0, Clock())
    empty.put("a", "1", 5)
    assert len(empty) == 0


def test_the_least_recently_used_entry_is_evicted() -> None:
    cache: Cache[int] = Cache(3, Clock())
    for number in range(3):
        cache.put(number, number, 60)
    assert cache.get(0) == 0
    cache.put(3, 3, 60)
    assert [cache.get(number) for number in range(4)] == [0, None, 2, 3]
    assert cache.evicted == 1
    cache.clear()
    assert len(cache) == 0


@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 100), st.floats(0, 50))))
def test_the_cache_is_bounded_and_entries_expire(steps: list[tuple[int, float, float]]) -> None:
    clock = Clock()
    cache: Cache[float] = Cache(5, clock)
    for key, ttl, passing in steps:
        cache.put(key, clock.now + ttl, ttl)
        clock.now += passing
        assert len(cache) <= 5
        for one in range(21):
            end = cache.get(one)
            assert end is None or end > clock.now
