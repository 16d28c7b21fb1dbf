"""The pytest plugin's check for tasks, sockets and stacks that a test leaks."""

from __future__ import annotations

import re
import textwrap

import pytest

from tests.kit.plugin_runs import Runs

pytest_plugins = ["pytester"]


def test_leaks_are_named(runs: Runs) -> None:
    result = runs(
        """
        kept = []

        async def test_task(network):
            kept.append(asyncio.create_task(asyncio.sleep(1000), name="forgotten"))

        async def test_server(network):
            async def open_one():
                kept.append(await asyncio.start_server(echo, port=8))
            await network.host("a").run(open_one())

        async def test_connection(network):
            async def connect():
                kept.append(await asyncio.open_connection("b", 7))
            await build(network).run(connect())

        async def test_stack(network):
            kept.append(await create_stack())

        async def test_on_the_stack(stack):
            kept.append(await stack.start_server(echo, "127.0.0.1", 7))

        async def test_failure_beside(network):
            async def fail():
                raise OSError("not retrieved")
            task = network.host("a").run(fail())
            await asyncio.sleep(1)

        async def test_deadlock(network):
            await asyncio.get_running_loop().create_future()

        async def test_own_failure_is_not_hidden(network):
            kept.append(asyncio.create_task(asyncio.sleep(1000), name="no news"))
            raise ValueError("this is the news")
        """
    )
    result.assert_outcomes(failed=8)
    output = result.stdout.str()
    output = output.partition(" short test summary ")[0]
    parts = re.split(r"^_+ (test_\w+) _+$", output, flags=re.MULTILINE)
    texts = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert "task forgotten" in texts["test_task"]
    assert "<TcpServer on *:8> on a" in texts["test_server"]
    assert "on a" in texts["test_connection"]
    assert "leaked" in texts["test_connection"]
    assert "stack with" in texts["test_stack"]
    assert "<TcpServer on 127.0.0.1:7> on the stack" in texts["test_on_the_stack"]
    assert "not retrieved" in texts["test_failure_beside"]
    assert "\nDeadlockError: no task can run again at 0.000000000 s" in texts["test_deadlock"]
    assert "in _idle" not in texts["test_deadlock"]
    assert "this is the news" in texts["test_own_failure_is_not_hidden"]
    assert "leaked" not in texts["test_own_failure_is_not_hidden"]
    for text in texts.values():
        assert "--tcpip-seed 0" in text


SERVICES = """
import logging
kept = []

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            await receive()
            await send({"type": "lifespan.startup.complete"})
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})

async def get(port):
    reader, writer = await asyncio.open_connection("b", port)
    writer.write(b"GET / HTTP/1.1\\r\\nHost: b\\r\\n\\r\\n")
    while await reader.readline() != b"\\r\\n":
        pass
    body = await reader.readexactly(5)
    writer.close()
    await writer.wait_closed()
    return body

def serve_uvicorn(lifespan):
    async def serve():
        import uvicorn
        config = uvicorn.Config(application, "0.0.0.0", 80, lifespan=lifespan, log_config=None)
        await uvicorn.Server(config).serve()
    return serve

async def hold(reader, writer):
    kept.append(writer)  # and never closes it
    await reader.read(1)
    writer.write(b"x")
    await asyncio.get_running_loop().create_future()

async def daemonize():
    kept.append(await asyncio.start_server(hold, port=81))
    loop = asyncio.get_running_loop()
    kept.append(await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("0.0.0.0", 9)))
    kept.append(asyncio.create_task(asyncio.sleep(1e9), name="of the service"))
    kept.append(await create_stack())
    kept.append(await asyncio.open_connection("a", 7))

async def touch():
    reader, writer = await asyncio.open_connection("b", 81)
    writer.write(b"?")
    assert await reader.read(1) == b"x"
    writer.close()
"""


def test_sockets_of_services_end_with_the_test(runs: Runs) -> None:
    """As long as a service lives, so does what it has opened; what the test itself has opened still counts."""
    result = runs(
        SERVICES
        + textwrap.dedent(
            """
        @pytest.mark.parametrize("lifespan", ["off", "on", "auto"])
        async def test_uvicorn(network, lifespan):
            a = build(network)
            network.hosts["b"].start(serve_uvicorn(lifespan))
            await asyncio.sleep(1)
            assert await a.run(get(80)) == b"hello"

        async def test_services_that_return(network):
            a = build(network)
            a.start(serve)
            network.hosts["b"].start(daemonize)
            await asyncio.sleep(5)
            await a.run(touch())
            network.hosts["b"].restart()
            await asyncio.sleep(5)
            await a.run(touch())

        async def test_own(network):
            a = build(network)
            network.hosts["b"].start(daemonize)
            a.start(serve)
            await asyncio.sleep(5)
            async def open_more():
                kept.append(await asyncio.start_server(hold, port=82))
                kept.append(asyncio.create_task(asyncio.sleep(1e9), name="of the test"))
            await network.hosts["b"].run(open_more())
            async def connect():
                kept.append(await asyncio.open_connection("b", 82))
                kept.append(await asyncio.open_connection("b", 81))
            await a.run(connect())
        """
        )
    )
    result.assert_outcomes(passed=4, failed=1)
    output = result.stdout.str().partition(" short test summary ")[0]
    left = output.partition("the test leaked:\n")[2].partition("\nA test closes what it opens")[0].splitlines()
    assert "host.start(serve)" in output
    assert 'tcpip_leaks("ignore")' in output
    assert any("<TcpServer on *:82> on b" in text for text in left)
    assert any("task of the test on b" in text for text in left)
    assert not any("of the service" in text or ":81> on b" in text or "Udp" in text or "stack" in text for text in left)
    assert sum("<TcpTransport" in text and text.endswith("on a") for text in left) == 2, left
    assert sum("<TcpTransport" in text and text.endswith("on b") for text in left) == 1, "that of the test's own server"


POLICIES = """
async def test_FIRST(network):
    asyncio.create_task(asyncio.sleep(1000), name="forgotten")

@pytest.mark.tcpip_leaks("ignore")
async def test_ignored(network):
    asyncio.create_task(asyncio.sleep(1000), name="no news")

@pytest.mark.tcpip_leaks("warn")
async def test_warned(network, stack):
    asyncio.create_task(asyncio.sleep(1000), name="a warning")

@pytest.mark.tcpip_leaks("fail")
async def test_failing(stack):
    await stack.start_server(echo, "127.0.0.1", 7)
"""


@pytest.mark.parametrize("policy", ["fail", "warn", "ignore"])
def test_the_check_can_be_relaxed(runs: Runs, policy: str) -> None:
    options = ["-Wdefault", f"-otcpip_leaks={policy}"]
    result = runs(POLICIES.replace("FIRST", policy), *options)
    failed = 2 if policy == "fail" else 1
    result.assert_outcomes(passed=4 - failed, failed=failed, warnings=2 if policy == "warn" else 1)
    output = result.stdout.str()
    assert ("task forgotten" in output) == (policy != "ignore")
    assert "task a warning" in output
    assert "no news" not in output
    assert "<TcpServer on 127.0.0.1:7> on the stack" in output


def test_the_former_names_are_deprecated(runs: Runs) -> None:
    source = """
        @pytest.mark.tcpip_left_open("ignore")
        async def test_marker(network):
            asyncio.create_task(asyncio.sleep(1000))

        async def test_option(network):
            asyncio.create_task(asyncio.sleep(1000))
        """
    result = runs(source, "-Wdefault", "-otcpip_left_open=ignore")
    result.assert_outcomes(passed=2, warnings=2)
    assert "the ini option tcpip_left_open is now tcpip_leaks" in result.stdout.str()
    assert "the marker tcpip_left_open is now tcpip_leaks" in result.stdout.str()


def test_wrong_policies_are_refused(runs: Runs) -> None:
    result = runs("@pytest.mark.tcpip_leaks('never')\nasync def test_it(network): pass")
    result.assert_outcomes(errors=1)
    assert "tcpip_leaks takes one of fail, warn, ignore" in result.stdout.str()
    result = runs("def test_it(): pass", "-otcpip_leaks=never")
    assert "tcpip_leaks: 'never' is not one of fail, warn, ignore" in result.stderr.str()


def test_the_check_beside_pytest_asyncio(runs: Runs) -> None:
    pytest.importorskip("pytest_asyncio")
    source = """
        @pytest.mark.asyncio
        @pytest.mark.tcpip_leaks("ignore")
        async def test_it(stack):
            await stack.start_server(echo, "127.0.0.1", 7)
        """
    options = ["--asyncio-mode=strict", "-oasyncio_default_fixture_loop_scope=function", "-ppytest_asyncio"]
    runs(source, "-pno:anyio", *options, alone=False).assert_outcomes(passed=1)


FIXTURES = """
events = []

@pytest.fixture
async def client(network):
    client = build(network)
    await asyncio.sleep(1)
    yield client
    assert await client.run(ask(b"still there")) == b"still there"
    events.append(network.loop.time())

@pytest.fixture
def third(network):
    host = network.host("c")
    yield host
    asyncio.get_running_loop()
    events.append("c")

@pytest.fixture
async def number():
    await asyncio.sleep(10)
    return 5

@pytest.fixture
def plain():
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()
    return time.time()

class TestIt:
    @pytest.fixture
    async def own(self, client):
        return self, client

    async def test_it(self, own, client, third, number, plain, network):
        assert own == (self, client)
        assert (third.name, number) == ("c", 5)
        assert network.loop.time() == 11
        assert plain > 1.5e9
        assert await client.run(ask()) == b"hello"

def test_after():
    assert events[0] == "c" and events[1] > 11

@pytest.fixture
async def careless(network):
    yield asyncio.create_task(asyncio.sleep(1000), name="forgotten")

async def test_left(careless):
    pass

@pytest.fixture
async def broken(network):
    asyncio.create_task(asyncio.sleep(1000))
    raise ValueError("a broken fixture")

async def test_broken(network, broken):
    pass
"""


def test_fixtures_share_the_loop(runs: Runs) -> None:
    """Coroutine fixtures, and others that use the network, run where the test does, and end after it."""
    result = runs(FIXTURES)
    result.assert_outcomes(passed=3, errors=2)
    assert "the test or its fixtures leaked:\n  task forgotten" in result.stdout.str()
    assert "a broken fixture" in result.stdout.str()
