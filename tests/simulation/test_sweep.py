"""Sweeps: their results, repetition and capture of failures, and processes that die."""

from __future__ import annotations

import functools
import gc
import io
import itertools
import multiprocessing
import os
import pty
import shlex
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from tcpip_wasm.capture import Trace
from tcpip_wasm.cli import main
from tcpip_wasm.simulation import Network, SweepReport, Trial, network_of, run, sweep
from tcpip_wasm.simulation.runs.progress import ProgressLine
from tcpip_wasm.simulation.runs.trial import capture_of
from tests.kit import scenarios

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """Two processes, for tests that can share them."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        yield executor


def test_results_are_those_of_run(pool: ProcessPoolExecutor) -> None:
    trials: list[Trial] = []
    report = sweep(scenarios.exchange, 40, pool, on_trial=trials.append)
    assert (report.runs, report.passed, report.failed, report.failures) == (40, 40, 0, [])
    assert sorted(trial.seed for trial in trials) == list(range(40))
    for trial in trials:
        if trial.seed in (0, 17, 39):
            alone = run(scenarios.exchange, seed=trial.seed)
            assert (trial.digest, trial.value, trial.duration >= alone.duration) == (alone.digest, alone.value, True)
    assert len({trial.digest for trial in trials}) > 20, "one in ten frames is lost, and so they differ"
    report.check()


def test_failures_repeat_and_are_captured(pool: ProcessPoolExecutor, tmp_path: Path) -> None:
    folder = tmp_path / "captures"
    report = sweep(scenarios.every_seventh, range(1, 30), pool, captures=folder)
    assert sorted(trial.seed for trial in report.failures) == [7, 14, 21, 28]
    assert (report.runs, report.failed, report.stopped) == (29, 4, False)
    for trial in report.failures:
        assert trial.error == f"ValueError: {trial.seed} is a multiple of seven"
        assert "in every_seventh" in trial.traceback
        assert trial.repeats
        assert trial.capture == folder / f"every_seventh-seed{trial.seed}.pcapng"
        assert Trace.load(trial.capture).tcp(port=7)
        assert trial.digest == run(scenarios.exchange, seed=trial.seed).digest
        assert str(trial.digest) in str(trial)
        assert str(trial.capture) in str(trial)
    with pytest.raises(AssertionError, match=r"4 failed[^$]*7 is a multiple of seven"):
        report.check()


def test_failures_are_reported_while_other_seeds_run(pool: ProcessPoolExecutor, tmp_path: Path) -> None:
    order: list[Trial] = []
    sweep(scenarios.every_seventh, 500, pool, captures=None, keep=1, on_trial=order.append)
    places = [place for place, trial in enumerate(order) if trial.failed]
    assert len(places) == 72
    assert places[0] < 100, "long before the end"
    assert [trial.repeats for trial in order if trial.failed].count(True) == 1, "as many as are to be kept"


def test_the_sweep_stops_after_a_number_of_failures(pool: ProcessPoolExecutor) -> None:
    report = sweep(scenarios.every_seventh, itertools.count(), pool, stop_after=3, captures=None)
    assert report.stopped
    assert 3 <= report.failed < 100
    assert report.runs < 1000
    assert "stopped early" in str(report)


def test_a_leak_is_a_failure(pool: ProcessPoolExecutor) -> None:
    report = sweep(scenarios.leaks_a_task, [2, 3], pool, captures=None)
    assert [trial.seed for trial in report.failures] == [3]
    assert "leaked: task forgotten" in str(report.failures[0])


def test_a_nondeterministic_scenario_is_reported(pool: ProcessPoolExecutor) -> None:
    report = sweep(scenarios.differs, 1, pool, captures=None)
    assert report.failures[0].repeats is False
    assert "does not depend on the seed alone" in str(report.failures[0])


def test_an_unpicklable_result_is_a_failure(pool: ProcessPoolExecutor) -> None:
    report = sweep(scenarios.unpicklable, 1, pool, captures=None)
    assert "the scenario's result cannot be pickled" in str(report.failures[0])


def test_a_scenario_that_raises_keyboard_interrupt(pool: ProcessPoolExecutor) -> None:
    report = sweep(scenarios.leaves, 2, pool, captures=None)
    assert [trial.error for trial in report.failures] == ["SystemExit: 3", "SystemExit: 3"]


def test_options_and_text_seeds(pool: ProcessPoolExecutor) -> None:
    report = sweep(scenarios.exchange, ["one", "two"], pool, limit=0.001, captures=None)
    assert sorted(str(trial.seed) for trial in report.failures) == ["one", "two"]
    assert all("TimeLimitError" in str(trial) for trial in report.failures)
    trials: list[Trial] = []
    sweep(scenarios.exchange, 2, pool, trace=False, on_trial=trials.append)
    assert [trial.digest for trial in trials] == [None, None]


def test_threads_run_one_after_the_other() -> None:
    """A run replaces the process's clocks exclusively; the pool's other threads keep theirs."""
    clocks: list[float] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.001):
            clocks.append(time.time())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(2) as executor:
            report = sweep(scenarios.exchange, 20, executor)
    finally:
        ended.set()
        watcher.join()
    assert report.passed == 20
    assert clocks
    assert min(clocks) > 1.5e9, "real time, not that of 2000"


def test_small_runs_are_submitted_in_chunks() -> None:
    class Counting(ThreadPoolExecutor):
        submitted = 0

        def submit(self, *arguments, **options):  # type: ignore[no-untyped-def]
            self.submitted += 1
            return super().submit(*arguments, **options)

    with Counting(1) as executor:
        trials: list[Trial] = []
        assert sweep(scenarios.nothing, 300, executor, on_trial=trials.append).passed == 300
        assert sorted(trial.value for trial in trials) == list(range(300))
        assert executor.submitted < 100


def test_a_process_of_the_pool_that_dies(tmp_path: Path) -> None:
    """The seed that ends its process is identified, all others have run, and no process is left."""
    before = set(multiprocessing.active_children())
    trials: list[Trial] = []
    report = sweep(scenarios.dies, 60, workers=2, captures=tmp_path, on_trial=trials.append)
    assert sorted(trial.seed for trial in trials) == list(range(60))
    assert [trial.seed for trial in report.failures] == [13]
    assert report.failures[0].error == "its process died with exit code -9"
    assert set(multiprocessing.active_children()) <= before


def test_a_broken_executor_of_the_caller_raises() -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as executor, pytest.raises(BrokenExecutor):
        sweep(scenarios.dies, [13], executor)


def test_scenarios_that_other_processes_cannot_import() -> None:
    async def local(network: Network) -> None:
        """Do nothing."""

    with pytest.raises(TypeError, match="top level of a module"):
        sweep(local, 1)
    with pytest.raises(TypeError, match="coroutine function"):
        sweep("exchange", 1)  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as executor:
        assert sweep(local, 1, executor).passed == 1
    program = (
        "from tcpip_wasm.simulation import sweep\n"
        "async def typed(network): pass\n"
        "try: sweep(typed, 1)\n"
        "except ValueError as error: print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert "typed in" in said.stdout, said.stderr


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"seeds": -1}, ValueError),
        ({"seeds": "abc"}, TypeError),
        ({"workers": 0}, ValueError),
        ({"stop_after": 0}, ValueError),
        ({"keep": -1}, ValueError),
        ({"seed": 1}, TypeError),
    ],
)
def test_arguments_are_checked(options: dict[str, object], error: type[Exception]) -> None:
    name = next(iter(options))
    with pytest.raises(error, match=name):
        sweep(scenarios.nothing, **{"seeds": 1, **options})  # type: ignore[arg-type]


def test_no_seeds_and_partial() -> None:
    assert sweep(scenarios.nothing, 0).runs == 0
    with ThreadPoolExecutor(1) as executor:
        assert sweep(functools.partial(scenarios.nothing), [5], executor).passed == 1


def test_an_exception_of_the_callback_ends_the_sweep(pool: ProcessPoolExecutor) -> None:
    def fail(trial: Trial) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sweep(scenarios.nothing, 1000, pool, on_trial=fail)
    assert sweep(scenarios.nothing, 1, pool).passed == 1, "the executor still works"


def test_a_run_is_garbage_collected() -> None:
    """A worker runs thousands: no reference may keep loops and networks of finished runs."""
    loops = []

    async def watched(network: Network) -> int:
        loops.append(weakref.ref(network.loop))
        return await scenarios.exchange(network)

    for seed in range(3):
        run(watched, seed=seed)
    gc.collect()
    assert [loop() for loop in loops] == [None, None, None]


# --- On a terminal, and as a command --------------------------------------------------------------------------------


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_progress_line_on_a_terminal_and_elsewhere() -> None:
    terminal, file = _Terminal(), io.StringIO()
    for stream in (terminal, file):
        line = ProgressLine(100, stream=stream)
        line.update(40, 2)
        line.write_above("seed 3: ValueError")
        line.update(100, 2)
        line.close()
    assert file.getvalue() == ""
    assert "40 of 100 seeds, 2 failed" in terminal.getvalue()
    assert "seed 3: ValueError\n" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K"), "it is gone at the end"


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    name = "tests.kit.scenarios"
    assert main(["sweep", f"{name}:every_seventh", "--first", "5", "-n", "5", "-j", "1"]) == 1
    output = capsys.readouterr().out
    assert "seed 7: ValueError: 7 is a multiple of seven" in output
    assert "5 seeds, 1 failed" in output
    (repeat,) = (line for line in output.splitlines() if line.startswith("repeat"))
    _, program, *arguments = shlex.split(repeat)
    assert program == "tcpip-wasm"
    assert main(arguments) == 1
    again = capsys.readouterr().out
    assert output[: output.index("\n    capture")] in again, "the same seed, error and trace"
    assert repeat in again
    assert "1 seeds, 1 failed" in again
    assert (tmp_path / ".tcpip" / "every_seventh-seed7.pcapng").exists()
    assert main(["sweep", f"{name}:nothing", "-n", "0"]) == 0
    for wrong in ("nothing", f"{name}:nobody", "no.such.module:nothing", f"{name}:nothing:"):
        assert main(["sweep", wrong]) == 1
        assert wrong.split(":")[0] in capsys.readouterr().err


def test_a_failure_has_the_hash_of_a_run(tmp_path: Path) -> None:
    """It is the hash at the failure of the scenario, without the frames that services send when they are ended."""
    with ThreadPoolExecutor(1) as executor:
        (failure,) = sweep(scenarios.fails_with_a_service, 1, executor, captures=tmp_path).failures
    with pytest.raises(ValueError, match="it fails") as caught:
        run(scenarios.fails_with_a_service)
    assert f"trace {failure.digest};" in caught.value.__notes__[0]
    assert failure.repeats
    network = network_of(caught.value)
    assert network is not None
    assert network.trace().digest() != failure.digest, "the service has sent something since"


@pytest.mark.skipif(not hasattr(pty, "openpty"), reason="no terminals here")
@pytest.mark.parametrize("start", ["quick", "slow"])
def test_ctrl_c_on_a_terminal(tmp_path: Path, start: str) -> None:
    """It ends at once, prints the results so far, and leaves no process; workers may be starting at that time."""
    ours, theirs = pty.openpty()
    environment = dict(os.environ)
    if (
        start == "slow"
    ):  # the interrupt arrives while the interpreters of the workers start: they wait for a signal there
        site = "import signal, sys\nif 'spawn_main' in ' '.join(sys.orig_argv): signal.pause()\n"
        (tmp_path / "sitecustomize.py").write_text(site, encoding="utf-8")
        environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(ROOT)])
    command = [sys.executable, "-m", "tcpip_wasm", "sweep", "tests.kit.scenarios:slow", "-n", "100000"]
    process = subprocess.Popen(
        [*command, "-j", "2"],
        cwd=ROOT,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    interrupted = False
    try:
        while True:
            try:
                data = os.read(ours, 4096)
            except OSError:  # the terminal has no open descriptor left, also of workers
                break
            if not data:
                break
            seen += data
            if not interrupted and b" seeds, " in seen and b"[" in seen:
                interrupted = True
                os.killpg(process.pid, signal.SIGINT)  # as the terminal does: to all of them
        assert process.wait(200) == 130
    finally:
        os.close(ours)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert interrupted
    assert b"interrupted: " in seen
    assert b"Traceback" not in seen, seen.decode()


def test_the_text_of_a_report() -> None:
    report = SweepReport(runs=1000, failed=3, seconds=2.0)
    assert str(report) == "1,000 seeds, 3 failed, 2.0 s, 500/s"
    assert report.passed == 997


def test_a_long_trace_is_cut_at_its_beginning() -> None:
    async def scenario(network: Network) -> None:
        network.note("begun")
        network.at(0.015, network.note, "under way")
        await scenarios.exchange(network)

    trace = run(scenario, seed=1).network.trace()
    whole, end = capture_of(trace, "whole"), capture_of(trace, "end", most=500)
    assert len(Trace.load(io.BytesIO(whole))) == len(trace)
    kept = Trace.load(io.BytesIO(end))
    assert 0 < len(kept) < 8
    assert [packet.frame for packet in kept.observations] == [one.frame for one in trace.observations][-len(kept) :]
    assert b"frames before these are left out" in end
    for file in (whole, end):
        assert [event.text for event in Trace.load(io.BytesIO(file)).events] == ["begun", "under way"]


# --- Dask -----------------------------------------------------------------------------------------------------------


def test_dask(tmp_path: Path) -> None:
    """Two worker processes of Dask's, on the loopback: the same digests, and the failure comes with its capture."""
    distributed = pytest.importorskip("distributed", reason="dask and distributed are not installed")
    program = Path(__file__).with_name("dask_sweep.py")
    said = subprocess.run(
        [sys.executable, program, tmp_path], cwd=ROOT, capture_output=True, text=True, timeout=250, check=False
    )
    assert said.returncode == 0, said.stdout + said.stderr
    words = [line.split() for line in said.stdout.splitlines()]
    digests = {line[0]: line[1] for line in words if len(line) == 2 and line[0].isdigit()}
    assert len(digests) == 30
    assert digests["3"] == run(scenarios.exchange, seed=3).digest
    assert "workers 2" in said.stdout
    assert sorted(path.name for path in tmp_path.glob("*.pcapng")) == [
        f"every_seventh-seed{seed}.pcapng" for seed in (0, 14, 21, 28, 7)
    ]
    assert distributed.__version__
