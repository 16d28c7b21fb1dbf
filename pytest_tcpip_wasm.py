"""The pytest plugin of tcpip_wasm: the fixtures `network`, `stack` and `tcpip_seed`, and the marker `seeds`.

It is a module of its own, outside of the package, since pytest loads it whether a test suite uses it or not: importing
the package takes a fifth of a second, and this module imports it only for the first fixture. `tcpip_wasm.testing` has
the implementation.

A coroutine test that uses `network` is run here, in virtual time, whatever other plugins do with coroutine tests; its
own coroutine fixtures run on the same loop. A test that uses `stack` alone is run by pytest-asyncio or anyio if its
marker or their mode says so, and otherwise here.

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
    from tcpip_wasm.testing.leak_check import LeakCheckedStack
    from tcpip_wasm.testing.virtual_test import VirtualTest

MOST_SEEDS = 100_000
OTHERS = ("asyncio", "anyio")
"""Markers of the plugins that run coroutine tests."""

LEAKS = "tcpip_leaks"
"""Name of a marker and of an ini option."""

DEPRECATED_LEAKS = "tcpip_left_open"
"""Their former name."""

LEAK_POLICIES = ("fail", "warn", "ignore")

OURS = "seeds(numbers): run the test under many seeds: how many, from 0 on, or which (tcpip_wasm)"

_virtual_test: pytest.StashKey[VirtualTest] = pytest.StashKey()
_checked_stack: pytest.StashKey[LeakCheckedStack] = pytest.StashKey()
_seed: pytest.StashKey[int | str] = pytest.StashKey()
_marker_is_ours = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("tcpip_wasm", "simulated networks (tcpip_wasm)")
    group.addoption("--tcpip-seed", metavar="N", help="the seed of simulated networks; instead of those of markers")
    group.addoption("--tcpip-pcap", metavar="DIR", help="keep a capture of each simulated network")
    text = "what to do about a test that does not close tasks, sockets, servers or stacks: fail, warn or ignore"
    parser.addini(LEAKS, f"{text} (default: fail)", default="")
    parser.addini(DEPRECATED_LEAKS, f"deprecated name of {LEAKS}", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and if pytest-asyncio is installed, a fixture for each of its loop scopes."""
    theirs = any(line.split("(")[0].split(":")[0].strip() == "seeds" for line in config.getini("markers"))
    config.stash[_marker_is_ours] = not theirs
    if not theirs:
        config.addinivalue_line("markers", OURS)
    config.addinivalue_line("markers", f"{LEAKS}(policy): the same for a test as the ini option of this name")
    config.addinivalue_line("markers", f"{DEPRECATED_LEAKS}(policy): deprecated name of {LEAKS}")
    if config.getini(DEPRECATED_LEAKS):
        config.issue_config_time_warning(
            pytest.PytestDeprecationWarning(f"the ini option {DEPRECATED_LEAKS} is now {LEAKS}"), stacklevel=2
        )
    policy = _default_leak_policy(config)
    if policy not in LEAK_POLICIES:
        raise pytest.UsageError(f"{LEAKS}: {policy!r} is not one of {', '.join(LEAK_POLICIES)}")
    if config.pluginmanager.has_plugin("asyncio"):
        try:
            import pytest_asyncio

            made = ModuleType("tcpip_wasm_asyncio")
            for scope in ("function", "class", "module", "package", "session"):
                fixture = pytest_asyncio.fixture(loop_scope=scope, name=f"_tcpip_stack_{scope}")
                setattr(made, f"stack_{scope}", fixture(_stack_maker()))
        except (ImportError, AttributeError, TypeError):  # another plugin of that name, or a version before 0.24
            return
        config.pluginmanager.register(made, made.__name__)


def _default_leak_policy(config: pytest.Config) -> Any:
    return config.getini(LEAKS) or config.getini(DEPRECATED_LEAKS) or "fail"


def _leak_policy(item: pytest.Item) -> Any:
    """Return the policy for a test that does not close what it opens."""
    marker = item.get_closest_marker(LEAKS)
    if marker is None and (marker := item.get_closest_marker(DEPRECATED_LEAKS)) is not None:
        item.warn(pytest.PytestDeprecationWarning(f"the marker {DEPRECATED_LEAKS} is now {LEAKS}"))
    if marker is None:
        return _default_leak_policy(item.config)
    if len(marker.args) != 1 or marker.kwargs or marker.args[0] not in LEAK_POLICIES:
        pytest.fail(f"{item.nodeid}: {LEAKS} takes one of {', '.join(LEAK_POLICIES)}", pytrace=False)
    return marker.args[0]


# --- Seeds ----------------------------------------------------------------------------------------------------------


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Generate one test for each seed."""
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
        raise TypeError(f"seeds: expected a number or a list of seeds, not {value!r}")
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
def network(_tcpip_virtual_test: VirtualTest) -> Network:
    """An empty network in virtual time; the test, a coroutine, runs on its loop."""
    return _tcpip_virtual_test.network


@pytest.fixture
def _tcpip_virtual_test(request: pytest.FixtureRequest, tcpip_seed: int | str) -> Iterator[VirtualTest]:
    item: pytest.Item = request.node
    if not isinstance(item, _VirtualItem):
        pytest.fail(
            f"{item.nodeid}: `network` needs a coroutine test (async def) in a function or a plain class; "
            "other tests call tcpip_wasm.simulation.run()",
            pytrace=False,
        )
    from tcpip_wasm.testing import virtual_test as testing

    with testing.VirtualTest(tcpip_seed, _leak_policy(item)) as virtual_test:
        item.stash[_virtual_test] = virtual_test
        yield virtual_test
        virtual_test.finish()


@pytest.fixture
def stack(request: pytest.FixtureRequest, tcpip_seed: int | str) -> Any:
    """A stack with a loopback, on the loop of the coroutine test; closed after it."""
    item = request.node
    if isinstance(item, _VirtualItem):
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
    """Return a new function for each fixture, since pytest-asyncio sets attributes on them."""

    async def make_stack(request: pytest.FixtureRequest, tcpip_seed: int | str) -> AsyncIterator[NetworkStack]:
        from tcpip_wasm.testing import leak_check as testing

        item = request.node
        async with testing.LeakCheckedStack(tcpip_seed, _leak_policy(item)) as checked:
            virtual_test = item.stash.get(_virtual_test, None)
            if virtual_test is not None:
                virtual_test.adopt(checked.stack)
                yield checked.stack
            else:
                item.stash[_checked_stack] = checked
                yield checked.stack
                await checked.finish()

    return make_stack


_tcpip_stack_here = pytest.fixture(name="_tcpip_stack_here")(_stack_maker())


# --- Coroutine tests ------------------------------------------------------------------------------------------------


class _VirtualItem:
    """Mixin for a coroutine test that is run here. It hides the markers of other plugins from them."""

    def iter_markers_with_node(self, name: str | None = None) -> Iterator[tuple[Any, pytest.Mark]]:
        found = super().iter_markers_with_node(name)  # type: ignore[misc]
        return ((node, mark) for node, mark in found if mark.name not in OTHERS)

    def runtest(self) -> None:
        assert isinstance(self, pytest.Function)
        __tracebackhide__ = True
        virtual_test = self._request.getfixturevalue("_tcpip_virtual_test")
        function = self.obj

        def run_test(**arguments: Any) -> Any:
            __tracebackhide__ = True
            return virtual_test.test(lambda: function(**arguments))

        self.obj = run_test
        try:
            pytest.Function.runtest(self)
        finally:
            self.obj = function


_classes: dict[type, type] = {}


@pytest.hookimpl(hookwrapper=True, trylast=True)
def pytest_pycollect_makeitem(collector: Any, name: str, obj: object) -> Generator[None, Any, None]:
    """Take the coroutine tests that are run here, before other plugins see them."""
    outcome = yield
    if outcome.excinfo is not None:  # such as a wrong marker, which pytest reports
        return
    made = outcome.get_result()
    items = made if isinstance(made, list) else [made]
    if not any(isinstance(item, pytest.Function) and _is_virtual(item) for item in items):
        return
    kept = []
    for item in items:
        if isinstance(item, pytest.Function) and _is_virtual(item):
            callspec = getattr(item, "callspec", None)
            if callspec is not None and not _is_asyncio(callspec.params.get("anyio_backend", "asyncio")):
                continue  # virtual time works with asyncio only
            kind = type(item)
            if kind not in _classes:
                _classes[kind] = type(f"Virtual{kind.__name__}", (_VirtualItem, kind), {})
            item.__class__ = _classes[kind]
        kept.append(item)
    outcome.force_result(kept)


def _is_virtual(item: pytest.Function) -> bool:
    names = item.fixturenames
    if ("network" not in names and "stack" not in names) or not inspect.iscoroutinefunction(item.obj):
        return False
    fixtures = item._fixtureinfo.name2fixturedefs  # noqa: SLF001  pytest has no public list of a test's fixtures
    if _is_own_fixture(fixtures, "network"):
        return True
    if not _is_own_fixture(fixtures, "stack"):
        return False
    config = item.config
    theirs = any(item.get_closest_marker(name) is not None for name in OTHERS)
    return not theirs and not any(_is_auto_mode(config, name) for name in OTHERS)


def _is_asyncio(backend: Any) -> bool:
    """Whether a parameter of anyio_backend, a name with or without options, is asyncio."""
    return (backend if isinstance(backend, str) else backend[0]) == "asyncio"


def _is_own_fixture(fixtures: Any, name: str) -> bool:
    """Whether a fixture, or one that it overrides, is this file's: test suites have fixtures of these names."""
    return any(getattr(one.func, "__module__", None) == __name__ for one in fixtures.get(name, ()))


def _is_auto_mode(config: pytest.Config, name: str) -> bool:
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
        or not isinstance(request.node, _VirtualItem)
        or (getattr(function, "__module__", None) == __name__ and not _is_coroutine(function))
    ):
        yield
        return
    fixturedef.func = _in_virtual_time(function, fixturedef, request)
    try:
        yield
    finally:
        fixturedef.func = function


def _in_virtual_time(function: Callable[..., Any], fixturedef: Any, request: Any) -> Callable[..., Any]:
    instance = request.instance
    if inspect.ismethod(function) and isinstance(instance, type(function.__self__)):
        function = function.__func__.__get__(instance)
    is_coroutine = _is_coroutine(function)

    def find_virtual_test() -> VirtualTest | None:
        if not is_coroutine:
            virtual_test = request.node.stash.get(_virtual_test, None)
            return virtual_test if virtual_test is not None and virtual_test.is_used_by(fixturedef, False) else None
        virtual_test = request.getfixturevalue("_tcpip_virtual_test")
        virtual_test.is_used_by(fixturedef, True)
        return virtual_test  # type: ignore[no-any-return]

    def call(**arguments: Any) -> Any:
        virtual_test = find_virtual_test()
        return function(**arguments) if virtual_test is None else virtual_test.call(function, arguments)

    def generate(**arguments: Any) -> Iterator[Any]:
        virtual_test = find_virtual_test()
        yield from function(**arguments) if virtual_test is None else virtual_test.generate(function, arguments)

    return generate if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function) else call


def _is_coroutine(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


@pytest.hookimpl(hookwrapper=True, trylast=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, None]:
    """Check for leaks of a test that another plugin runs."""
    checked = pyfuncitem.stash.get(_checked_stack, None)
    if checked is None:
        yield
        return
    checked.begin()
    outcome = yield
    if outcome.excinfo is None:
        try:
            checked.check()
        except BaseException as error:
            outcome.force_exception(error)
    else:
        checked.skip()


# --- Reports --------------------------------------------------------------------------------------------------------


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, None]:
    """Add the command that repeats a failure to its report."""
    outcome = yield
    stash = item.stash
    virtual_test = stash.get(_virtual_test, None)
    seed = stash.get(_seed, None)
    if seed is None:
        return
    report = outcome.get_result()
    directory = item.config.getoption("--tcpip-pcap")
    if report.failed or (directory and virtual_test is not None and report.when == "call"):
        from tcpip_wasm.testing.report import describe

        text = describe(item, report, seed, virtual_test, directory)
        if report.failed:
            report.sections.append(("tcpip_wasm", text))
    if report.when == "teardown":
        # Items are kept until the session ends, and a network is large.
        if virtual_test is not None:
            del stash[_virtual_test]
        if _checked_stack in stash:
            del stash[_checked_stack]
