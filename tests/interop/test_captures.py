"""Our captures compared with the kernel's: of a link between a stack and the kernel, both have the same frames."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from tcpip_wasm import CaptureFormatError, UdpDatagram, create_stack
from tcpip_wasm.capture import Trace, capture, read_capture
from tcpip_wasm.capture.connections import connections
from tcpip_wasm.capture.trace import observation_of
from tests.kit.core_network import payload
from tests.kit.polling import poll

from .harness.namespaces import network_namespace
from .harness.requirements import require_kernel_peer

_ECHO = """
import asyncio
async def serve(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
async def main():
    for host in ("10.91.0.1", "fd91::1"):
        await asyncio.start_server(serve, host, 7)
    print("ready", flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
_SIZE = 300_000
_SOURCES = ("10.91.0.1", "10.91.0.2", "fd91::1", "fd91::2")


def _readable(path: Path) -> Trace:
    """Return the frames that a growing file has so far."""
    trace = Trace()
    try:
        for captured in read_capture(path):
            trace.record(observation_of(captured))
    except (CaptureFormatError, FileNotFoundError):
        pass
    return trace.where(lambda packet: packet.source in _SOURCES)


@pytest.mark.parametrize("kind", ["tap", "tun"])
@pytest.mark.parametrize("format_", ["pcap", "pcapng"])
def test_the_kernels_capture_has_the_same_frames(kind: str, format_: str, tmp_path: Path) -> None:
    require_kernel_peer("dumpcap")
    kernel, ours = tmp_path / f"kernel.{format_}", tmp_path / "ours.pcapng"

    async def main() -> None:
        with network_namespace() as namespace, namespace.open_device(kind, ["10.91.0.1/24", "fd91::1/64"]) as device:  # type: ignore[arg-type]
            namespace.start(sys.executable, "-I", "-c", _ECHO, ready="ready")
            form = ["-P"] if format_ == "pcap" else []
            dumpcap = namespace.start("dumpcap", "-q", *form, "-i", "peer0", "-w", str(kernel), ready="File:")
            async with await create_stack(seed=1) as stack:
                create = stack.create_tap_interface if kind == "tap" else stack.create_tun_interface
                interface = await create(ip=["10.91.0.2/24", "fd91::2/64"])
                device.attach(interface)
                with capture(interface, ours):
                    for host in ("10.91.0.1", "fd91::1"):
                        reader, writer = await stack.open_connection(host, 7)
                        writer.write(payload(_SIZE))
                        writer.write_eof()
                        assert await reader.read() == payload(_SIZE)
                        writer.close()
                        async with await stack.create_ping_session(host) as ping:
                            await ping.ping(payload(1000), timeout=60)
                        async with await stack.open_udp(remote=(host, 9)) as udp:
                            await udp.send(UdpDatagram(host, 9, payload(3000)))
                            with pytest.raises(ConnectionRefusedError):
                                await udp.receive()
            # It writes what it has several times a second.
            await poll(lambda: len(_readable(kernel)) >= len(_readable(ours)), seconds=100)
            dumpcap.send_signal(signal.SIGINT)
            await asyncio.to_thread(dumpcap.wait, 60)

    asyncio.run(main())
    theirs, trace = Trace.load(kernel), Trace.load(ours)
    assert len(trace) > 400
    assert not [packet for packet in (*theirs, *trace) if packet.malformed]
    for source in _SOURCES:
        frames = [packet.observation.frame for packet in trace if packet.source == source]
        assert len(frames) > 20
        # The kernel may look for its neighbour again after we have ended.
        assert [packet.observation.frame for packet in theirs if packet.source == source][: len(frames)] == frames
    # The times of both are those of one clock.
    first = next(packet for packet in trace if packet.tcp)
    same = next(packet for packet in theirs if packet.observation.frame == first.observation.frame)
    assert abs(first.time - same.time) < 5
    for each in (theirs, trace):
        found = connections(each)
        assert len(found) == 2
        for connection in found:
            assert [direction.data for direction in connection.directions] == [_SIZE, _SIZE]
