"""Figures of connections: the points that are drawn, the files, and the command."""

from __future__ import annotations

import asyncio
import io
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import pytest

import tcpip_wasm
from tcpip_wasm.capture import Event, Observation, PcapngWriter, Trace, link_types, plot
from tcpip_wasm.capture.connections import Acknowledgement, Segment, connections, views
from tcpip_wasm.cli import main
from tcpip_wasm.simulation import Network, run, run_virtually
from tests.kit.captures import transfer
from tests.kit.core_network import payload
from tests.kit.frames import ACK, FIN, SYN, TCP, ipv4, tcp

A, B = ("10.0.0.1", 1000), ("10.0.0.2", 80)
FIRST = 0xFFFFFF00  # the sequence numbers of A pass 2³²
SCALED = b"\3\3\2\1"


def segment(
    time: float,
    sequence: int = 0,
    acknowledgement: int | None = None,
    flags: int = 0,
    *,
    back: bool = False,
    data: int = 0,
    options: bytes = b"",
    comment: str | None = None,
    point: str = "link0",
) -> Observation:
    """A segment from A to B or back; numbers count from the SYN."""
    source, to = (B, A) if back else (A, B)
    own, other = (5, FIRST) if back else (FIRST, 5)
    frame = tcp(
        *(source, to),
        sequence=own + sequence,
        acknowledgement=0 if acknowledgement is None else other + acknowledgement,
        flags=flags | (0 if acknowledgement is None else ACK),
        window=1000,
        options=options,
        payload=bytes(data),
    )
    packet = ipv4(source[0], to[0], TCP, frame)
    return Observation(100 + time, point, not back, packet, comment, link_types.RAW)


def sack(left: int, right: int) -> bytes:
    return b"\1\1\5\x0a" + b"".join((FIRST + each & 0xFFFFFFFF).to_bytes(4) for each in (left, right))


CONVERSATION = [
    segment(0.0, flags=SYN, options=SCALED),
    segment(0.1, 0, 1, SYN, back=True, options=SCALED),
    segment(0.2, 1, 1),
    segment(0.2, 1, 1, data=500),
    segment(0.2, 501, 1, data=500, comment="loss"),
    segment(0.2, 1001, 1, data=500),
    segment(0.3, 1, 501, back=True),
    segment(0.3, 1, 501, back=True, options=sack(1001, 1501)),
    segment(0.4, 501, 1, data=500),
    segment(0.5, 1, 1501, back=True, comment="queue"),
    segment(0.6, 1501, 1, FIN),
    segment(0.7, 1, 1502, FIN, back=True, data=100),
]


def test_the_points_that_are_drawn() -> None:
    (connection,) = connections(Trace(CONVERSATION))
    there, back = connection.directions
    assert connection.main is there
    assert (connection.point, connection.start, connection.packets, connection.data) == ("link0", 100.0, 12, 1600)
    assert (there.sender, there.receiver, there.data, back.data) == (A, B, 1500, 100)
    assert [(round(s.time, 6), s.start, s.end, s.retransmitted, s.dropped) for s in there.segments] == [
        (0.0, 0, 1, False, None),
        (0.2, 1, 501, False, None),
        (0.2, 501, 1001, False, "loss"),
        (0.2, 1001, 1501, False, None),
        (0.4, 501, 1001, True, None),
        (0.6, 1501, 1502, False, None),
    ]
    assert [(round(a.time, 6), a.number, a.edge, a.sack, a.dropped) for a in there.acknowledgements] == [
        (0.1, 1, 1001, (), None),  # the window of a SYN is not scaled: RFC 7323, section 2.2
        (0.3, 501, 4501, (), None),
        (0.3, 501, 4501, ((1001, 1501),), None),
        (0.5, 1501, 5501, (), "queue"),
        (0.7, 1502, 5502, (), None),
    ]
    assert [(round(time, 6), size) for time, size in there.outstanding()] == [
        *((0.0, 1), (0.1, 0), (0.2, 500), (0.2, 1000), (0.2, 1500)),
        *((0.3, 1000), (0.3, 1000), (0.4, 1000), (0.6, 1001), (0.7, 0)),
    ]
    width, sent, acknowledged = there.throughput(0.25)
    assert width == 0.25
    assert sent == [1501 * 32, 500 * 32, 1 * 32]
    assert acknowledged == [0, 500 * 32, 1001 * 32]
    _, sent, acknowledged = there.throughput(0.1, start=0.35, end=0.65)
    assert sent == pytest.approx([500 * 80, 0, 80])
    assert acknowledged == [0, 0, 0]
    with pytest.raises(ValueError, match="intervals"):
        there.throughput(1e-9)


def test_a_capture_that_begins_in_the_middle() -> None:
    (connection,) = connections(Trace(CONVERSATION[6:]))
    there = connection.directions[1]
    assert there.sender == A
    assert [segment.start for segment in there.segments] == [0, 1000]
    assert [ack.number for ack in there.acknowledgements] == [0, 0, 1000, 1001]
    # The window scale was not captured.
    assert there.acknowledgements[0].edge == 1000
    assert [size for _, size in there.outstanding()] == [0, 0, 500, 1001, 0]


def test_frames_dropped_after_they_were_sent() -> None:
    """A frame is observed once, when it is sent, and marked when its queue drops it."""
    dropped = segment(0.25, 501, 1, data=500)
    acknowledged = replace(CONVERSATION[6])
    trace = Trace([*CONVERSATION[:4], CONVERSATION[5], dropped, acknowledged, CONVERSATION[8]])
    dropped.drop("codel", 100.3)
    acknowledged.drop("down", 100.35)
    (connection,) = connections(trace)
    there = connection.directions[0]
    assert [(s.start, s.dropped) for s in there.segments] == [
        (0, None),
        (1, None),
        (1001, None),
        (501, "codel"),
        (501, None),
    ]
    assert [(a.number, a.dropped) for a in there.acknowledgements] == [(1, None), (501, "down")]
    assert connection.packets == 8


def test_several_connections_and_points() -> None:
    again = [Observation(each.time + 1, *fields_of(each)) for each in CONVERSATION]
    twice = [
        copy
        for each in CONVERSATION
        for copy in (
            Observation(each.time, "a", each.outgoing, each.frame, link_type=link_types.RAW),
            Observation(each.time, "b", not each.outgoing, each.frame, link_type=link_types.RAW),
        )
    ]
    assert [(each.point, each.start) for each in connections(Trace(CONVERSATION + again))] == [
        ("link0", 100),
        ("link0", 101),
    ]
    found = connections(Trace(twice))
    assert [(each.point, each.data) for each in found] == [("a", 1600), ("b", 1600)]
    assert connections(Trace()) == []
    assert str(found[0]) == "10.0.0.1:1000 > 10.0.0.2:80 at a: 12 packets, 1,500 bytes there, 100 back"


def test_a_connection_that_several_points_saw_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def seen(point: str, later: float, frames: list[Observation]) -> list[Observation]:
        return [Observation(each.time + later, point, *fields_of(each)[1:]) for each in frames]

    # The SYN of the second one got no further than the first link, the third took the same ports once more.
    first, third = CONVERSATION, CONVERSATION
    parts = [seen("a", 0, first), seen("b", 0.01, first), seen("c", 0.02, first[:6])]
    parts += [seen("a", 2, CONVERSATION[:1]), seen("a", 2.5, CONVERSATION[-1:]), seen("a", 4, third)]
    parts += [seen("b", 4.01, third)]
    trace = Trace(sorted((each for part in parts for each in part), key=lambda each: each.time))
    groups = views(connections(trace))
    assert [[(each.point, round(each.start - 100, 2)) for each in group] for group in groups] == [
        [("a", 0.0), ("b", 0.01), ("c", 0.02)],
        [("a", 4.0), ("b", 4.01)],
        [("a", 2.0)],
    ]
    assert views([]) == []
    file = tmp_path / "three.pcapng"
    trace.save(file)
    assert main(["plot", "--list", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    ends = "10.0.0.1:1000 > 10.0.0.2:80 at a"
    assert lines[0] == (f"1  {ends}: 12 packets, 1,500 bytes there, 100 back; also at b (12 packets), c (6 packets)")
    assert lines[1:] == [
        f"2  {ends}: 12 packets, 1,500 bytes there, 100 back; also at b (12 packets)",
        f"3  {ends}: 2 packets, 0 bytes there, 100 back",
    ]
    assert main(["plot", "-c", "2", "-p", "c", str(file)]) == 1
    assert capsys.readouterr().err == f"tcpip-wasm: {file}: point c: connection 2 was captured at a, b\n"
    pytest.importorskip("matplotlib")
    for options, point in (([], "a"), (["-p", "c"], "c")):
        assert main(["plot", *options, "-o", str(tmp_path / "a.svg"), str(file)]) == 0
        assert f"connection 1 of 3: 10.0.0.1:1000 > 10.0.0.2:80 at {point}: " in capsys.readouterr().out


def fields_of(each: Observation) -> tuple[str, bool, bytes, str | None, int]:
    return each.point, each.outgoing, each.frame, each.comment, each.link_type


def test_the_throughput_of_a_transfer() -> None:
    trace = Trace()
    size = 300_000
    assert run_virtually(transfer(trace, size, loss=0.01)) == payload(size)
    (connection,) = connections(trace)
    shown = connection.main
    assert shown.data == size
    assert shown.segments[-1].end == size + 2  # SYN and FIN
    assert [segment for segment in shown.segments if segment.retransmitted]
    assert len([s for s in shown.segments if s.dropped]) == len(trace.at("link0", outgoing=True).tcp().dropped())
    assert shown.outstanding()[-1][1] == 0
    width, sent, acknowledged = shown.throughput()
    assert 50 <= len(sent) <= 126
    assert sum(acknowledged) * width / 8 == pytest.approx(size + 1)
    assert sum(sent) * width / 8 == pytest.approx(sum(s.end - s.start for s in shown.segments))
    # 10 Mbit/s: an acknowledgement that fills a hole covers more than its interval, but never what cannot be there yet.
    assert all(sum(acknowledged[:number]) <= number * 10e6 for number in range(1, len(acknowledged) + 1))


def test_empty_directions_have_points_too() -> None:
    (connection,) = connections(Trace(CONVERSATION[:1]))
    assert connection.directions[1].outstanding() == []
    assert connection.directions[1].throughput()[1:] == ([0.0], [0.0])
    assert connection.directions[0].segments == [Segment(0, 0, 1, False, None)]
    assert connection.directions[1].acknowledgements == list[Acknowledgement]()


# --- Pictures -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    trace = Trace()
    run_virtually(transfer(trace, 300_000, loss=0.01))
    path = tmp_path_factory.mktemp("capture") / "lossy.pcapng"
    trace.save(path)
    return path


def test_png_and_svg(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = pytest.importorskip("matplotlib.image")
    png, svg = tmp_path / "a.png", tmp_path / "a.svg"
    for output in (png, svg):
        assert main(["plot", str(file), "-o", str(output)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{png}: connection 1 of 1: 10.0.0.1:")
    pixels = image.imread(png)
    assert pixels.shape[0] > 600
    assert pixels.shape[1] > 800
    assert len({tuple(pixel) for row in pixels[::7, ::7] for pixel in row}) > 5
    text = svg.read_text()
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) > 50
    assert main(["plot", str(file), "-o", str(tmp_path / "b.svg")]) == 0
    assert (tmp_path / "b.svg").read_text() == text


def test_labels() -> None:
    pytest.importorskip("matplotlib")
    from tcpip_wasm.capture.picture import draw, save

    (connection,) = connections(Trace(CONVERSATION))
    figure = draw(connection)
    top, middle, bottom = figure.axes
    assert top.get_ylabel() == "sequence number (bytes)"
    legend = top.get_legend()
    assert legend
    assert [text.get_text() for text in legend.get_texts()] == [
        "edge of the receiver's window",
        "acknowledged",
        "sent (4)",
        "retransmitted (1)",
        "dropped (1)",
        "selectively acknowledged (1 blocks)",
        "acknowledgement dropped (1)",
    ]
    assert middle.get_ylabel() == "unacknowledged (bytes)"
    assert "the congestion window is not visible" in middle.get_title(loc="left")
    assert bottom.get_ylabel() == "throughput (Mbit/s)"
    assert bottom.get_xlabel() == "time since the connection's first packet (ms)"
    # Also of next to nothing, of the other direction and of a part without packets.
    for trace in (CONVERSATION[:1], CONVERSATION[6:7]):
        (small,) = connections(Trace(trace))
        for direction in small.directions:
            save(draw(small, direction=direction), io.BytesIO())
    save(draw(connection, start=50, end=60), io.BytesIO(), format="svg")


# --- Events ---------------------------------------------------------------------------------------------------------


async def _parted(network: Network) -> Trace:
    """A transfer through a partition, a link that is down, and a crash."""
    client, server = network.host("client"), network.host("server")
    link = network.link(client, server, bandwidth=2e6, delay=0.02)

    async def serve() -> None:
        async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(payload(2_000_000))
            with suppress(ConnectionResetError):
                await writer.drain()

        async with await asyncio.start_server(send, port=80) as listening:
            await listening.serve_forever()

    async def fetch() -> int:
        reader, writer = await asyncio.open_connection("server", 80)
        received = 0
        with suppress(TimeoutError):
            while data := await asyncio.wait_for(reader.read(65536), 3):
                received += len(data)
        writer.close()
        return received

    server.start(serve)
    await asyncio.sleep(0.1)
    _, writer = await client.stack.open_connection("server", 80)  # each knows the other's MAC from now on
    writer.transport.abort()
    await asyncio.sleep(5 - network.loop.time())
    for time, call in ((6, network.heal), (7, link.down), (7.5, link.up), (9, server.crash), (11, server.restart)):
        network.at(time, call)
    network.at(5.5, network.partition, "client", "server")
    assert 200_000 < await client.run(fetch()) < 2_000_000
    return network.trace()


@pytest.fixture(scope="module")
def partitioned() -> Trace:
    return run(_parted, seed=1).value


EVENTS = ["partition: client | server", "healed", "link client-server: down", "link client-server: up",
          "server crashed", "server restarted"]  # fmt: skip


def shades_of(axes: Any) -> list[Any]:
    return [patch for patch in axes.patches if hasattr(patch, "get_height") and patch.get_height() == 1]


def test_events_are_drawn(partitioned: Trace, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.colors import to_hex

    partitioned.save(tmp_path / "partition.pcapng")
    for source in (partitioned, tmp_path / "partition.pcapng", str(tmp_path / "partition.pcapng")):
        figure = plot(source)
        top, middle, bottom = figure.axes
        assert [text.get_text().strip() for text in top.texts] == EVENTS
        assert [round(text.get_position()[0], 6) for text in top.texts] == [5.5, 6, 7, 7.5, 9, 11]
        for axes in (top, middle, bottom):
            lines: list[Any] = [line for line in axes.lines if list(cast(Any, line.get_ydata())) == [0, 1]]
            assert [line.get_xdata()[0] for line in lines] == pytest.approx([5.5, 6, 7, 7.5, 9, 11])
            shades = shades_of(axes)
            assert [shade.get_x() for shade in shades] == pytest.approx([5.5, 7, 9])
            assert [shade.get_x() + shade.get_width() for shade in shades] == pytest.approx([6, 7.5, 11])
            colors = [to_hex(shade.get_facecolor()) for shade in shades]
            assert colors[0] != colors[1] == colors[2]
    # What lasts from before the part that is shown until after it fills it.
    part = plot(partitioned, start=9.5, end=10.5)
    assert not part.axes[0].texts
    (shade,) = shades_of(part.axes[0])
    assert (shade.get_x(), shade.get_width()) == pytest.approx((9.5, 1.0))
    assert plot(partitioned, reverse=True, connection=1, point="client-server").axes[0].texts


def test_one_origin_of_time(partitioned: Trace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A figure's axis, text of a trace and ``show`` have the same times, with and without filters."""
    pytest.importorskip("matplotlib")
    later = Trace(Observation(each.time + 1.7e9, *fields_of(each)) for each in partitioned.observations)
    later.events += [Event(event.time + 1.7e9, event.text) for event in partitioned.events]
    for trace, unit in ((partitioned, "run"), (later, "capture")):
        path = tmp_path / f"{unit}.pcapng"
        trace.save(path)
        shown = {}
        for options in ([], ["--tcp"], ["--tcp", "--host", "10.0.0.2"]):
            assert main(["show", str(path), *options]) == 0
            printed = capsys.readouterr().out.splitlines()
            shown[len(options)] = [line for line in printed if " TCP " in line or "***" in line]
        assert shown[0] == shown[1]
        assert set(shown[3]) <= set(shown[1])
        loaded = Trace.load(path)
        assert set(shown[0]) <= set(loaded.text().splitlines())
        assert loaded.tcp().text().splitlines() == shown[1]
        assert plot(loaded.tcp()).axes[2].get_xlim() == plot(path).axes[2].get_xlim()
        text = next(line for line in shown[0] if "***" in line)
        figure = plot(path)
        assert figure.axes[2].get_xlabel() == f"time since the beginning of the {unit} (s)"
        assert figure.axes[0].texts[0].get_position()[0] == pytest.approx(float(text.split()[0]), abs=1e-6)
        first = float([line for line in shown[0] if " TCP [S]" in line][-1].split()[0])
        last = float(shown[0][-1].split()[0])
        low, high = figure.axes[2].get_xlim()
        assert low < first < low + 0.5
        assert first < last <= high + 3


def test_a_notebook_shows_the_figure(partitioned: Trace) -> None:
    pytest.importorskip("matplotlib")
    assert plot(partitioned)._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="connection 9: there are 1 to"):
        plot(partitioned, connection=9)
    with pytest.raises(ValueError, match="point x: connection 1 was captured at client-server"):
        plot(partitioned, point="x")
    with pytest.raises(ValueError, match="no TCP connection among 0 packets"):
        plot(Trace())


def test_list_show_and_mistakes(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", "--list", str(file)]) == 0
    assert re.fullmatch(
        r"1  10\.0\.0\.1:\d+ > 10\.0\.0\.2:80 at link0: \d+ packets, 300,000 bytes there, 0 back\n",
        capsys.readouterr().out,
    )
    assert main(["show", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(Trace.load(file))
    assert sum("[DROPPED: loss]" in line for line in lines) == len(Trace.load(file).dropped("loss")) > 0
    for options, kept in (
        (["--point", "link0"], lines),
        (["--point", "link1"], []),
        (["--host", "10.0.0.1", "--tcp"], [line for line in lines if " TCP " in line]),
        (["--host", "10.0.0.9"], []),
    ):
        assert main(["show", *options, str(file)]) == 0
        assert capsys.readouterr().out.splitlines() == kept
    assert main(["plot", "-c", "2", str(file)]) == 1
    assert capsys.readouterr().err == f"tcpip-wasm: {file}: connection 2: there are 1 to 1\n"
    assert main(["show", str(tmp_path / "none")]) == 1
    assert "No such file" in capsys.readouterr().err
    assert main(["plot", "-o", str(tmp_path / "a.nonsense"), str(file)]) == 1
    assert "nonsense" in capsys.readouterr().err
    empty = tmp_path / "empty.pcapng"
    PcapngWriter(empty).close()
    assert main(["plot", str(empty)]) == 1
    assert capsys.readouterr().err == f"tcpip-wasm: {empty}: no TCP connection among 0 packets\n"
    with pytest.raises(SystemExit) as caught:
        main(["nonsense"])
    assert caught.value.code == 2


def test_a_truncated_file(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut = tmp_path / "cut.pcapng"
    cut.write_bytes(file.read_bytes()[:-10])
    whole = len(Trace.load(file))
    assert main(["show", str(cut)]) == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == whole - 1
    assert "the file ends in a block" in said.err
    assert main(["plot", "--list", str(cut)]) == 0
    assert f"only {whole - 1:,} packets could be read: the file ends in a block" in capsys.readouterr().err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    help_text = capsys.readouterr().out
    assert help_text.startswith("usage: tcpip-wasm ")
    assert {"show", "plot", "sweep"} <= set(help_text.split())
    for option, text in (("--version", f"tcpip-wasm {tcpip_wasm.__version__}\n"), ("--help", help_text)):
        with pytest.raises(SystemExit) as caught:
            main([option])
        assert caught.value.code == 0
        assert capsys.readouterr().out == text
    program = Path(sys.executable).parent / "tcpip-wasm"
    for command in ([str(program)], [sys.executable, "-m", "tcpip_wasm"]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=250)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.split()[:2] == ["usage:", "tcpip-wasm"]


def test_as_a_program(file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tcpip_wasm", "plot", "--list", str(file)],
        capture_output=True,
        text=True,
        timeout=250,
        check=True,
    )
    assert "300,000 bytes there" in done.stdout
    # The reader closes the pipe after one line.
    with subprocess.Popen(
        [sys.executable, "-m", "tcpip_wasm", "show", str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


def test_without_matplotlib(file: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from tcpip_wasm.cli import main\n"
        f"raise SystemExit(main(['plot', {str(file)!r}, '-o', {str(tmp_path / 'a.png')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=250)
    assert done.returncode == 1
    assert "pip install 'tcpip_wasm[plot]'" in done.stderr
    assert "Traceback" not in done.stderr
