"""The pytest plugin of tcpip_wasm: the fixtures `network`, `stack` and `tcpip_seed`, and the marker `seeds`.

It stands beside the package, not inside, since pytest loads it whether a test suite uses it or not: importing the
package takes a fifth of a second, and this here takes none of it. `tcpip_wasm.testing` does the work, from the first
fixture on.

A coroutine test that uses `network` is run here, in virtual time, whatever other plugins make of coroutine tests; its
own coroutine fixtures are run on the same loop. One that uses `stack` alone is run by pytest-asyncio or anyio if it is
theirs, by marker or mode, and else here, too.

The reasons are in docs/explanation/tests.md.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tcpip_wasm import NetworkStack
    from tcpip_wasm.simulation import Network
    from tcpip_wasm.testing.leak_check import WatchedStack
    from tcpip_wasm.testing.virtual_test import StagedTest

MOST_SEEDS = 100_000
OTHERS = ("asyncio", "anyio")
"""Markers of the plugins that run coroutine tests."""

LEFT_OPEN = "tcpip_left_open"
"""Name of a marker and of an ini option."""

LEFT_OPEN_POLICIES = ("fail", "warn", "ignore")

OURS = "seeds(numbers): run the test under many seeds: how many, from 0 on, or which (tcpip_wasm)"

_staged: pytest.StashKey[StagedTest] = pytest.StashKey()
_watched: pytest.StashKey[WatchedStack] = pytest.StashKey()
_seed: pytest.StashKey[int | str] = pytest.StashKey()
_marker_is_ours = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("tcpip_wasm", "simulated networks (tcpip_wasm)")
    group.addoption("--tcpip-seed", metavar="N", help="the seed of simulated networks; instead of those of markers")
    group.addoption("--tcpip-pcap", metavar="DIR", help="keep a capture of each simulated network")
    text = "what becomes of a test that leaves tasks, sockets, servers or stacks open: fail, warn or ignore"
    parser.addini(LEFT_OPEN, text, default="fail")


def pytest_configure(config: pytest.Config) -> None:
    """Announce the marker, and give pytest-asyncio fixtures of its kind, if it is there."""
    theirs = any(line.split("(")[0].split(":")[0].strip() == "seeds" for line in config.getini("markers"))
    config.stash[_marker_is_ours] = not theirs
    if not theirs:
        config.addinivalue_line("markers", OURS)
    config.addinivalue_line("markers", f"{LEFT_OPEN}(policy): the same for a test as the ini option of this name")
    policy = config.getini(LEFT_OPEN)
    if policy not in LEFT_OPEN_POLICIES:
        raise pytest.UsageError(f"{LEFT_OPEN}: {policy!r} is not one of {', '.join(LEFT_OPEN_POLICIES)}")
    if config.pluginmanager.has_plugin("asyncio"):
        try:
            import pytest_asyncio

            made = ModuleType("tcpip_wasm_asyncio")
            for scope in ("function", "class", "module", "package", "session"):
                fixture = pytest_asyncio.fixture(loop_scope=scope, name=f"_tcpip_stack_{scope}")
                setattr(made, f"stack_{scope}", fixture(_stack_maker()))
        except (ImportError, AttributeError, TypeError):  # another plugin of that name, or one before 0.24
            return
        config.pluginmanager.register(made, made.__name__)


def _left_open_policy(item: pytest.Item) -> Any:
    """What becomes of a test that leaves something open."""
    marker = item.get_closest_marker(LEFT_OPEN)
    if marker is None:
        return item.config.getini(LEFT_OPEN)
    if len(marker.args) != 1 or marker.kwargs or marker.args[0] not in LEFT_OPEN_POLICIES:
        pytest.fail(f"{item.nodeid}: {LEFT_OPEN} takes one of {', '.join(LEFT_OPEN_POLICIES)}", pytrace=False)
    return marker.args[0]


# --- Seeds ----------------------------------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test of each seed."""
    marker = metafunc.definition.get_closest_marker("seeds")
    if marker is None or not metafunc.config.stash[_marker_is_ours]:
        return
    if "tcpip_seed" not in metafunc.fixturenames:
        pytest.fail(
            f"{metafunc.definition.nodeid}: a test with seeds uses the fixture network, stack or tcpip_seed",
            pytrace=False,
        )
    if len(marker.args) != 1 or marker.kwargs:
        pytest.fail(f"{metafunc.definition.nodeid}: seeds takes one argument, a number or a list", pytrace=False)
    given = metafunc.config.getoption("--tcpip-seed")
    try:
        seeds = _parse_seeds(marker.args[0]) if given is None else [_parse_seed(given)]
    except (TypeError, ValueError) as error:
        raise pytest.fail.Exception(f"{metafunc.definition.nodeid}: {error}", pytrace=False) from None
    metafunc.parametrize("tcpip_seed", seeds, ids=[f"seed{seed}" for seed in seeds])


def _parse_seed(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


def _parse_seeds(value: object) -> list[int | str]:
    if isinstance(value, (bool, str)) or not isinstance(value, (int, Iterable)):
        raise TypeError(f"seeds: a number or a list of seeds is wanted, not {value!r}")
    seeds: list[int | str] = list(range(value)) if isinstance(value, int) else list(value)
    if not 1 <= len(seeds) <= MOST_SEEDS:
        raise ValueError(f"seeds: there must be 1 to {MOST_SEEDS:,}, not {value!r}")
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, (int, str)):
            raise TypeError(f"seeds: {seed!r} is neither int nor text")
    return seeds


# --- Fixtures -------------------------------------------------------------------------------------------------------


@pytest.fixture
def tcpip_seed(request: pytest.FixtureRequest) -> int | str:
    """The seed: that of ``--tcpip-seed``, else that of the marker `seeds`, else 0."""
    given = request.config.getoption("--tcpip-seed")
    return 0 if given is None else _parse_seed(given)


@pytest.fixture
def network(_tcpip_staged: StagedTest) -> Network:
    """An empty network in virtual time; the test, a coroutine, runs on its loop."""
    return _tcpip_staged.network


@pytest.fixture
def _tcpip_staged(request: pytest.FixtureRequest, tcpip_seed: int | str) -> Iterator[StagedTest]:
    item: pytest.Item = request.node
    if not isinstance(item, _Staged):
        pytest.fail(
            f"{item.nodeid}: `network` needs a coroutine test (async def) in a function or a plain class; "
            "others call tcpip_wasm.simulation.run()",
            pytrace=False,
        )
    from tcpip_wasm.testing import virtual_test as testing

    with testing.StagedTest(tcpip_seed, _left_open_policy(item)) as staged:
        item.stash[_staged] = staged
        yield staged
        staged.finish()


@pytest.fixture
def stack(request: pytest.FixtureRequest, tcpip_seed: int | str) -> Any:
    """A stack with a loopback, on the loop of the coroutine test; closed after it."""
    item = request.node
    if isinstance(item, _Staged):
        return request.getfixturevalue("_tcpip_stack_here")
    if "anyio_backend" in request.fixturenames:
        if not _is_asyncio(request.getfixturevalue("anyio_backend")):
            pytest.skip("a stack needs asyncio")
        return request.getfixturevalue("_tcpip_stack_here")
    marker = item.get_closest_marker("asyncio")
    if marker is not None and request.config.pluginmanager.has_plugin("tcpip_wasm_asyncio"):
        scope = marker.kwargs.get("loop_scope") or request.config.getini("asyncio_default_test_loop_scope")
        return request.getfixturevalue(f"_tcpip_stack_{scope}")
    return pytest.fail(
        f"{item.nodeid}: `stack` needs a coroutine test (async def) in a function or a plain class", pytrace=False
    )


def _stack_maker() -> Callable[..., AsyncIterator[NetworkStack]]:
    """Return a function of its own for each fixture: pytest-asyncio marks them."""

    async def make_stack(request: pytest.FixtureRequest, tcpip_seed: int | str) -> AsyncIterator[NetworkStack]:
        from tcpip_wasm.testing import leak_check as testing

        item = request.node
        async with testing.WatchedStack(tcpip_seed, _left_open_policy(item)) as watched:
            staged = item.stash.get(_staged, None)
            if staged is not None:
                staged.adopt(watched.stack)
                yield watched.stack
            else:
                item.stash[_watched] = watched
                yield watched.stack
                await watched.finish()

    return make_stack


_tcpip_stack_here = pytest.fixture(name="_tcpip_stack_here")(_stack_maker())


# --- Coroutine tests ------------------------------------------------------------------------------------------------


class _Staged:
    """Mixed into a coroutine test that is run here. To other plugins it does not have their markers."""

    def iter_markers_with_node(self, name: str | None = None) -> Iterator[tuple[Any, pytest.Mark]]:
        found = super().iter_markers_with_node(name)  # type: ignore[misc]
        return ((node, mark) for node, mark in found if mark.name not in OTHERS)

    def runtest(self) -> None:
        assert isinstance(self, pytest.Function)
        __tracebackhide__ = True
        staged = self._request.getfixturevalue("_tcpip_staged")
        function = self.obj

        def perform(**arguments: Any) -> Any:
            __tracebackhide__ = True
            return staged.test(lambda: function(**arguments))

        self.obj = perform
        try:
            pytest.Function.runtest(self)
        finally:
            self.obj = function


_classes: dict[type, type] = {}


@pytest.hookimpl(hookwrapper=True, trylast=True)
def pytest_pycollect_makeitem(collector: Any, name: str, obj: object) -> Generator[None, Any, None]:
    """Take the coroutine tests that are run here, before other plugins see them."""
    outcome = yield
    if outcome.excinfo is not None:  # such as a wrong marker: pytest tells it
        return
    made = outcome.get_result()
    items = made if isinstance(made, list) else [made]
    if not any(isinstance(item, pytest.Function) and _is_mine(item) for item in items):
        return
    kept = []
    for item in items:
        if isinstance(item, pytest.Function) and _is_mine(item):
            callspec = getattr(item, "callspec", None)
            if callspec is not None and not _is_asyncio(callspec.params.get("anyio_backend", "asyncio")):
                continue  # virtual time is asyncio's
            kind = type(item)
            if kind not in _classes:
                _classes[kind] = type(f"Staged{kind.__name__}", (_Staged, kind), {})
            item.__class__ = _classes[kind]
        kept.append(item)
    outcome.force_result(kept)


def _is_mine(item: pytest.Function) -> bool:
    names = item.fixturenames
    if ("network" not in names and "stack" not in names) or not inspect.iscoroutinefunction(item.obj):
        return False
    fixtures = item._fixtureinfo.name2fixturedefs  # noqa: SLF001  pytest has no public list of a test's fixtures
    if _is_here(fixtures, "network"):
        return True
    if not _is_here(fixtures, "stack"):
        return False
    config = item.config
    theirs = any(item.get_closest_marker(name) is not None for name in OTHERS)
    return not theirs and not any(_is_auto(config, name) for name in OTHERS)


def _is_asyncio(backend: Any) -> bool:
    """Whether a parameter of anyio_backend, a name with or without options, is asyncio."""
    return (backend if isinstance(backend, str) else backend[0]) == "asyncio"


def _is_here(fixtures: Any, name: str) -> bool:
    """Whether a fixture, or one that it replaces, is that of this file: suites have fixtures of these names."""
    return any(getattr(one.func, "__module__", None) == __name__ for one in fixtures.get(name, ()))


def _is_auto(config: pytest.Config, name: str) -> bool:
    if not config.pluginmanager.has_plugin(name):
        return False
    mode = config.getoption(f"{name}_mode", None)
    if mode is None:
        try:
            mode = config.getini(f"{name}_mode")
        except (KeyError, ValueError):
            return False
    return str(getattr(mode, "value", mode)) == "auto"


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_fixture_setup(fixturedef: Any, request: Any) -> Generator[None, Any, None]:
    """Run a test's own fixtures on its loop: coroutines, and others where they use `network` or `stack`."""
    function = fixturedef.func
    if fixturedef.argname == "tcpip_seed":
        outcome = yield
        if outcome.excinfo is None and isinstance(seed := outcome.get_result(), (int, str)):
            request.node.stash[_seed] = seed
        return
    if (
        fixturedef.scope != "function"
        or not isinstance(request.node, _Staged)
        or (getattr(function, "__module__", None) == __name__ and not _is_coroutine(function))
    ):
        yield
        return
    fixturedef.func = _on_stage(function, fixturedef, request)
    try:
        yield
    finally:
        fixturedef.func = function


def _on_stage(function: Callable[..., Any], fixturedef: Any, request: Any) -> Callable[..., Any]:
    instance = request.instance
    if inspect.ismethod(function) and isinstance(instance, type(function.__self__)):
        function = function.__func__.__get__(instance)
    is_coroutine = _is_coroutine(function)

    def stage() -> StagedTest | None:
        if not is_coroutine:
            staged = request.node.stash.get(_staged, None)
            return staged if staged is not None and staged.is_used_by(fixturedef, False) else None
        staged = request.getfixturevalue("_tcpip_staged")
        staged.is_used_by(fixturedef, True)
        return staged  # type: ignore[no-any-return]

    def call(**arguments: Any) -> Any:
        staged = stage()
        return function(**arguments) if staged is None else staged.call(function, arguments)

    def generate(**arguments: Any) -> Iterator[Any]:
        staged = stage()
        yield from function(**arguments) if staged is None else staged.generate(function, arguments)

    return generate if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function) else call


def _is_coroutine(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


@pytest.hookimpl(hookwrapper=True, trylast=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, None]:
    """See what a test has left open that another plugin has run."""
    watched = pyfuncitem.stash.get(_watched, None)
    if watched is None:
        yield
        return
    watched.begin()
    outcome = yield
    if outcome.excinfo is None:
        try:
            watched.check()
        except BaseException as error:
            outcome.force_exception(error)
    else:
        watched.give_up()


# --- Reports --------------------------------------------------------------------------------------------------------


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    """Add to a failure what repeats it."""
    outcome = yield
    stash = item.stash
    staged = stash.get(_staged, None)
    seed = stash.get(_seed, None)
    if seed is None:
        return
    report = outcome.get_result()
    directory = item.config.getoption("--tcpip-pcap")
    if report.failed or (directory and staged is not None and report.when == "call"):
        from tcpip_wasm.testing.report import describe

        text = describe(item, report, seed, staged, directory)
        if report.failed:
            report.sections.append(("tcpip_wasm", text))
    if report.when == "teardown":
        # The item lives as long as the session, and a network is large.
        if staged is not None:
            del stash[_staged]
        if _watched in stash:
            del stash[_watched]
