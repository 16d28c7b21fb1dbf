"""Dates in a run: ``datetime.now`` and other functions follow virtual time, and objects have the real type."""

from __future__ import annotations

import copy
import datetime
import datetime as module
import email.utils
import importlib
import logging
import pickle
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from datetime import datetime as imported_before
from pathlib import Path
from typing import Any

import pytest

from tcpip_wasm.simulation import Network, run

KEPT = [datetime.datetime]  # a module-level name would be replaced, too
BOUND_BEFORE = datetime.datetime.now
DATE = "2000-01-01T01:01:01.250000"


def in_a_run(ask: Callable[[], Any], **options: Any) -> Any:
    """Return the result of a function an hour, a minute, a second and a quarter after the beginning of a run."""

    async def scenario(network: Network) -> Any:
        import asyncio

        await asyncio.sleep(3661.25)
        return ask()

    return run(scenario, **options).value


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.mark.parametrize(
    "ask",
    [
        lambda: datetime.datetime.now(),
        lambda: module.datetime.now(),
        lambda: imported_before.now(),
        lambda: imported_before.today(),
        lambda: imported_before.now(datetime.UTC).replace(tzinfo=None),
        lambda: (
            imported_before.now(tz=datetime.timezone(datetime.timedelta(hours=2))).replace(tzinfo=None)
            - datetime.timedelta(hours=2)
        ),
        lambda: email.utils.localtime().replace(tzinfo=None),
        lambda: KEPT[0].fromtimestamp(time.clock_gettime(time.CLOCK_REALTIME)),
        lambda: KEPT[0].fromtimestamp(time.clock_gettime_ns(time.CLOCK_REALTIME) / 1e9),
    ],
)
def test_dates_follow(ask: Callable[[], datetime.datetime]) -> None:
    found = in_a_run(ask)
    assert found.isoformat() == DATE
    assert type(found) is KEPT[0]
    before = KEPT[0].now() - datetime.timedelta(hours=12)
    assert ask() > before, "and afterwards it is real again"


@pytest.mark.filterwarnings("ignore:.*utcnow:DeprecationWarning")
def test_deprecated_functions_follow_too() -> None:
    assert in_a_run(lambda: imported_before.utcnow()).isoformat() == DATE


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (lambda: date.today().isoformat(), "2000-01-01"),
        (lambda: datetime.date.today().isoformat(), "2000-01-01"),
        (lambda: time.strftime("%Y-%m-%d %H:%M:%S"), "2000-01-01 01:01:01"),
        (lambda: time.strftime("%Y", time.gmtime(0)), "1970"),
        (lambda: time.ctime(), "Sat Jan  1 01:01:01 2000"),
        (lambda: time.ctime(0), "Thu Jan  1 00:00:00 1970"),
        (lambda: time.asctime(), "Sat Jan  1 01:01:01 2000"),
        (lambda: time.asctime(time.gmtime(0)), "Thu Jan  1 00:00:00 1970"),
        (lambda: time.localtime()[:6], (2000, 1, 1, 1, 1, 1)),
        (lambda: time.gmtime()[:6], (2000, 1, 1, 1, 1, 1)),
        (lambda: time.gmtime(None)[:6], (2000, 1, 1, 1, 1, 1)),
        (lambda: time.gmtime(0)[:6], (1970, 1, 1, 0, 0, 0)),
        (lambda: time.clock_gettime(time.CLOCK_MONOTONIC), 3661.25),
        (lambda: time.clock_gettime_ns(time.CLOCK_MONOTONIC), 3661_250_000_000),
        (lambda: email.utils.formatdate(usegmt=True), "Sat, 01 Jan 2000 01:01:01 GMT"),
        (lambda: logging.Formatter("%(asctime)s").format(logging.makeLogRecord({"created": time.time()}))[:19],
         "2000-01-01 01:01:01"),
    ],
)  # fmt: skip
def test_other_functions_that_return_the_time(ask: Callable[[], Any], expected: Any) -> None:
    assert in_a_run(ask) == expected


def test_the_class_behaves_as_the_real_one() -> None:
    """It can be compared, derived from, pickled and copied as the real class, and creates the real class's objects."""

    class Early(datetime.datetime):
        pass

    def ask() -> dict[str, Any]:
        class Late(datetime.datetime):
            pass

        made = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
        kinds = [
            datetime.datetime.fromisoformat("2024-02-29T12:00:00+00:00"),
            datetime.datetime.strptime("2024-02-29 12 +0000", "%Y-%m-%d %H %z"),
            datetime.datetime.fromtimestamp(1709208000, datetime.UTC),
            datetime.datetime.combine(datetime.date(2024, 2, 29), datetime.time(12), datetime.UTC),
            pickle.loads(pickle.dumps(made)),
            pickle.loads(pickle.dumps(made, 0)),
            copy.copy(made),
            copy.deepcopy(made),
            made + datetime.timedelta(0),
            made.replace(hour=12),
        ]
        assert all(one == made and type(one) is KEPT[0] for one in kinds), kinds
        assert isinstance(made, datetime.datetime)
        assert isinstance(made, imported_before)
        assert isinstance(Early(2024, 1, 1), datetime.datetime)
        assert issubclass(KEPT[0], datetime.datetime)
        assert issubclass(datetime.datetime, datetime.date)
        assert not isinstance(datetime.date(2024, 1, 1), datetime.datetime)
        assert not isinstance(made, Late)
        assert {KEPT[0]: 1}[datetime.datetime] == {datetime.datetime: 1}[type(made)] == 1
        assert datetime.datetime == KEPT[0]
        assert type(made) == datetime.datetime  # noqa: E721
        assert repr(datetime.datetime) == repr(KEPT[0])
        assert datetime.datetime.max == KEPT[0].max
        assert type(Late.now()) is Late
        assert Late.now().isoformat() == DATE
        assert pickle.loads(pickle.dumps(datetime.datetime)) is datetime.datetime
        with pytest.raises(TypeError, match="tz"):
            datetime.datetime.now("UTC")  # type: ignore[arg-type]
        return {"late": Late, "pickled": pickle.dumps(made), "class": datetime.datetime}

    kept = in_a_run(ask)
    assert pickle.loads(kept["pickled"]) == KEPT[0](2024, 2, 29, 12, tzinfo=datetime.UTC)
    assert (KEPT[0].now() - kept["late"].now()) < datetime.timedelta(hours=1), "what was derived in a run"
    assert (KEPT[0].now() - kept["class"].now()) < datetime.timedelta(hours=1)
    assert isinstance(KEPT[0].now(), kept["class"])


def test_everything_is_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imported_in_a_run.py").write_text("from datetime import datetime\nimport datetime as module\n")
    monkeypatch.syspath_prepend(tmp_path)
    functions = {name: getattr(time, name) for name in dir(time)}

    def ask() -> str:
        found = importlib.import_module("imported_in_a_run")
        assert imported_before is not KEPT[0]
        return str(found.datetime.now().isoformat())

    for _ in range(2):
        assert in_a_run(ask) == DATE
        assert imported_before is datetime.datetime is KEPT[0]
        assert sys.modules["imported_in_a_run"].datetime is KEPT[0]
        assert {name: getattr(time, name) for name in dir(time)} == functions
    with pytest.raises(ZeroDivisionError):
        in_a_run(lambda: 1 // 0)
    assert imported_before is datetime.datetime is KEPT[0]


def test_what_stays_real() -> None:
    """Names bound before, threads that ran before, and runs that leave time alone."""
    now = KEPT[0].now() - datetime.timedelta(hours=1)
    assert in_a_run(BOUND_BEFORE) > now
    with ThreadPoolExecutor(1) as pool:
        pool.submit(time.time).result()
        assert in_a_run(lambda: pool.submit(imported_before.now).result(10)) > now
        assert in_a_run(lambda: pool.submit(time.strftime, "%Y").result(10)) == now.strftime("%Y")
    assert in_a_run(imported_before.now, follow_time=False) > now


def test_another_library_that_replaces_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    class Frozen(datetime.datetime):
        pass

    monkeypatch.setattr(datetime, "datetime", Frozen)
    assert in_a_run(lambda: datetime.datetime) is Frozen
    assert imported_before is KEPT[0]
