"""asyncpg on a loop, and pg8000 on blocking sockets, with Debian's PostgreSQL in a namespace, over TAP."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import pg8000.native
import pytest

from tcpip_wasm import NetworkStack
from tests.interop.harness.requirements import require_postgresql
from tests.interop.programs.databases import PASSWORD, USER, postgresql
from tests.interop.programs.places import HOST, Place
from tests.kit.blocking_sockets import Background
from tests.kit.tls import client_context

ROWS = 100_000

secure = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])


@pytest.fixture(scope="module")
def database(place: Place) -> Iterator[Place]:
    """A place where PostgreSQL runs."""
    programs = require_postgresql()
    with postgresql(place.namespace, programs, (place.folder / "certificate.pem", place.folder / "key.pem")):
        yield place


def row(number: int) -> tuple[int, str, Decimal]:
    """Return a row of the bulk; some of its texts need quoting."""
    return number, f'"{number}",' + "é\n" * (number % 3) + "\t" + "x" * (number % 50), Decimal(number) / 8


def check_copied(found: tuple[Any, ...]) -> None:
    """Compare what `SUMS` found with the rows that were sent."""
    rows = [row(number) for number in range(ROWS)]
    texts = hashlib.md5("".join(text for _, text, _ in rows).encode()).hexdigest()
    assert found == (ROWS, sum(number for number, _, _ in rows), texts, sum(amount for _, _, amount in rows))


SUMS = "SELECT count(*), sum(number), md5(string_agg(text, '' ORDER BY number)), sum(amount) FROM bulk"

SCHEMA = """
    DROP TABLE IF EXISTS bulk; DROP SCHEMA IF EXISTS shop CASCADE;
    CREATE SCHEMA shop;
    CREATE TYPE shop.state AS ENUM ('new', 'paid');
    CREATE TABLE shop.customers (id serial PRIMARY KEY, name text NOT NULL UNIQUE, since timestamptz, data jsonb);
    CREATE TABLE shop.orders (
        id bigserial PRIMARY KEY, customer int NOT NULL REFERENCES shop.customers, state shop.state DEFAULT 'new',
        amount numeric(12, 2) CHECK (amount > 0), lines text[], picture bytea);
    CREATE INDEX ON shop.orders (customer, state);
    CREATE VIEW shop.totals AS
        SELECT name, sum(amount) AS total FROM shop.customers c JOIN shop.orders o ON o.customer = c.id GROUP BY name;
    CREATE TABLE bulk (number int PRIMARY KEY, text text, amount numeric);
"""


# --- asyncpg ----------------------------------------------------------------------------------------------------------


async def _connect(tls: bool) -> Any:
    # Given a context, it asks the server whether it speaks TLS, and upgrades the connection by itself.
    context: ssl.SSLContext | bool = client_context() if tls else False
    return await asyncpg.connect(
        host=HOST, user=USER, password=PASSWORD, database="postgres", ssl=context, passfile="/nonexistent", timeout=100
    )


async def _schema(connection: Any) -> None:
    await connection.execute(SCHEMA)
    since = datetime(2024, 2, 29, 12, 30, 15, 123456, UTC)
    picture = bytes(range(256)) * 1000
    async with connection.transaction():
        customer = await connection.fetchval(
            "INSERT INTO shop.customers (name, since, data) VALUES ($1, $2, $3) RETURNING id",
            *("Ænne", since, '{"a": [1, 2]}'),
        )
        order = "INSERT INTO shop.orders (customer, amount, lines, picture) VALUES ($1, $2, $3, $4)"
        await connection.executemany(
            order, [(customer, Decimal(n) / 4, [f"line {n}", None], picture) for n in range(1, 41)]
        )
    with pytest.raises(asyncpg.CheckViolationError):
        async with connection.transaction():
            await connection.execute("UPDATE shop.orders SET state = 'paid'")
            await connection.execute("UPDATE shop.orders SET amount = -1")
    assert await connection.fetchval("SELECT count(*) FROM shop.orders WHERE state = 'paid'") == 0
    assert tuple(await connection.fetchrow("SELECT * FROM shop.totals")) == ("Ænne", Decimal(205))
    assert await connection.fetchval("SELECT since FROM shop.customers") == since
    found = 0
    async with connection.transaction():
        async for record in connection.cursor("SELECT * FROM shop.orders ORDER BY id", prefetch=7):
            found += 1
            assert (record["lines"], record["picture"]) == ([f"line {found}", None], picture)
    assert found == 40


async def _copy(connection: Any) -> None:
    said = await connection.copy_records_to_table("bulk", records=map(row, range(ROWS)))
    assert said == f"COPY {ROWS}"
    check_copied(tuple(await connection.fetchrow(SUMS)))
    out = io.BytesIO()
    await connection.copy_from_query("SELECT * FROM bulk ORDER BY number", output=out, format="csv")
    out.seek(0)
    for number, found in enumerate(csv.reader(io.TextIOWrapper(out, "utf-8", newline=""))):
        assert (int(found[0]), found[1], Decimal(found[2])) == row(number)
    assert number == ROWS - 1


async def _notify(connection: Any, tls: bool) -> None:
    heard: asyncio.Queue[tuple[int, str, str]] = asyncio.Queue()

    def listener(_: Any, process: int, channel: str, text: str) -> None:
        heard.put_nowait((process, channel, text))

    await connection.add_listener("news", listener)
    other = await _connect(tls)
    try:
        for number in range(100):
            await other.execute("SELECT pg_notify('news', $1)", f"{number} ".rjust(3900, "ü"))
        for number in range(100):
            async with asyncio.timeout(100):
                expected = f"{number} ".rjust(3900, "ü")
                assert await heard.get() == (other.get_server_pid(), "news", expected)
    finally:
        await other.close()
    await connection.remove_listener("news", listener)


async def _cancelled(connection: Any, stack: NetworkStack) -> None:
    """asyncpg cancels over a second connection, which is the stack's, too."""
    process = connection.get_server_pid()
    sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(600)"))
    observer = await _connect(False)
    running = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'"
    try:
        async with asyncio.timeout(100):
            while await observer.fetchval(running, process) == 0:
                pass
        held = most = stack.stats().core.connections
        sleeping.cancel()
        while not sleeping.done():
            most = max(most, stack.stats().core.connections)
            await asyncio.sleep(0)
        assert sleeping.cancelled()
        async with asyncio.timeout(100):
            # The connection waits for its own cancelling, so that the next query is not the one that ends.
            query = asyncio.create_task(connection.fetchval("SELECT 1"))
            while not query.done():
                most = max(most, stack.stats().core.connections)
                await asyncio.sleep(0)
            assert query.result() == 1
        assert most == held + 1
        assert await observer.fetchval(running, process) == 0
    finally:
        await observer.close()
    assert connection.get_server_pid() == process


@secure
def test_asyncpg(tls: bool, database: Place) -> None:
    async def client(stack: NetworkStack) -> None:
        connection = await _connect(tls)
        try:
            secured = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            assert await connection.fetchval(secured) is tls
            await _schema(connection)
            await _copy(connection)
            await _notify(connection, tls)
            await _cancelled(connection, stack)
            with pytest.raises(asyncpg.QueryCanceledError):
                await connection.execute("SET statement_timeout = '50ms'; SELECT pg_sleep(600)")
        finally:
            await connection.close()

    database.run(client)


def test_a_pool_of_asyncpg(database: Place) -> None:
    """Ten connections, a thousand queries at once."""

    async def client(stack: NetworkStack) -> None:
        async with asyncpg.create_pool(
            host=HOST, user=USER, password=PASSWORD, database="postgres", ssl=client_context(), min_size=10, max_size=10
        ) as pool:
            results = await asyncio.gather(*[pool.fetchval("SELECT $1::int * 2", number) for number in range(1000)])
            assert results == [number * 2 for number in range(1000)]
            assert stack.stats().core.connections == 10

    database.run(client)


def test_asyncpg_verifies_by_the_given_authority(database: Place) -> None:
    async def client(_: NetworkStack) -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncpg.connect(host=HOST, user=USER, password=PASSWORD, ssl=ssl.create_default_context())
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(host=HOST, user=USER, password="wrong", ssl=client_context())

    database.run(client)


# --- pg8000 -----------------------------------------------------------------------------------------------------------


def _pg8000(tls: bool) -> Any:
    context: ssl.SSLContext | bool = client_context() if tls else False
    return pg8000.native.Connection(
        USER, host=HOST, password=PASSWORD, database="postgres", ssl_context=context, timeout=100
    )


def _pg8000_schema(connection: Any) -> None:
    connection.run(SCHEMA)
    since = datetime(2024, 2, 29, 12, 30, 15, 123456, UTC)
    picture = bytes(range(256)) * 1000
    connection.run("START TRANSACTION")
    ((customer,),) = connection.run(
        "INSERT INTO shop.customers (name, since, data) VALUES (:name, :since, :data) RETURNING id",
        name="Ænne",
        since=since,
        data='{"a": [1, 2]}',
    )
    order = connection.prepare(
        "INSERT INTO shop.orders (customer, amount, lines, picture) VALUES (:customer, :amount, :lines, :picture)"
    )
    for n in range(1, 41):
        order.run(customer=customer, amount=Decimal(n) / 4, lines=[f"line {n}", None], picture=picture)
    order.close()
    connection.run("COMMIT")
    connection.run("START TRANSACTION")
    connection.run("UPDATE shop.orders SET state = 'paid'")
    with pytest.raises(pg8000.native.DatabaseError, match="23514"):
        connection.run("UPDATE shop.orders SET amount = -1")
    connection.run("ROLLBACK")
    assert connection.run("SELECT count(*) FROM shop.orders WHERE state = 'paid'") == [[0]]
    assert connection.run("SELECT * FROM shop.totals") == [["Ænne", Decimal(205)]]
    assert connection.run("SELECT since, data FROM shop.customers") == [[since, {"a": [1, 2]}]]
    found = connection.run("SELECT lines, picture FROM shop.orders ORDER BY id")
    assert found == [[[f"line {n}", None], picture] for n in range(1, 41)]


def _pg8000_copy(connection: Any) -> None:
    into = io.StringIO(newline="")
    csv.writer(into).writerows(row(number) for number in range(ROWS))
    connection.run("COPY bulk FROM STDIN WITH (FORMAT csv)", stream=io.BytesIO(into.getvalue().encode()))
    assert connection.row_count == ROWS
    ((*found,),) = connection.run(SUMS)
    check_copied(tuple(found))
    out = io.BytesIO()
    connection.run("COPY (SELECT * FROM bulk ORDER BY number) TO STDOUT WITH (FORMAT csv)", stream=out)
    out.seek(0)
    for number, columns in enumerate(csv.reader(io.TextIOWrapper(out, "utf-8", newline=""))):
        assert (int(columns[0]), columns[1], Decimal(columns[2])) == row(number)
    assert number == ROWS - 1


def _pg8000_notify(connection: Any, tls: bool) -> None:
    connection.run("LISTEN news")
    other = _pg8000(tls)
    try:
        ((process,),) = other.run("SELECT pg_backend_pid()")
        for number in range(100):
            other.run("SELECT pg_notify('news', :text)", text=f"{number}")
    finally:
        other.close()
    connection.run("SELECT 1")  # it takes in what has come along with an answer
    assert list(connection.notifications) == [(process, "news", f"{number}") for number in range(100)]
    connection.run("UNLISTEN news")


def _pg8000_cancelled(connection: Any, tls: bool) -> None:
    """Blocked in one thread, and cancelled by another through the server, since pg8000 has no call for it."""
    ((process,),) = connection.run("SELECT pg_backend_pid()")
    sleeping = Background(connection.run, "SELECT pg_sleep(600)")
    sleeping.wait_until_blocked()
    other = _pg8000(tls)
    try:
        running = "SELECT count(*) FROM pg_stat_activity WHERE pid = :pid AND wait_event = 'PgSleep'"
        while other.run(running, pid=process) != [[1]]:
            threading.Event().wait(0.001)
        assert other.run("SELECT pg_cancel_backend(:pid)", pid=process) == [[True]]
        with pytest.raises(pg8000.native.DatabaseError, match="57014"):
            sleeping.result()
        assert other.run(running, pid=process) == [[0]]
    finally:
        other.close()
    assert connection.run("SELECT 1") == [[1]]


@secure
def test_pg8000(tls: bool, database: Place) -> None:
    with database.blocking():
        connection = _pg8000(tls)
        try:
            assert connection.run("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [[tls]]
            _pg8000_schema(connection)
            _pg8000_copy(connection)
            _pg8000_notify(connection, tls)
            _pg8000_cancelled(connection, tls)
        finally:
            connection.close()
        with pytest.raises(pg8000.native.DatabaseError, match="28P01"):
            pg8000.native.Connection(USER, host=HOST, password="wrong", ssl_context=client_context(), timeout=100)
