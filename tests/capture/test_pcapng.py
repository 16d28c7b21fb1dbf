"""Capture files: ours are read by tshark, dpkt and scapy, those of other programs and damaged ones are read here."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import dpkt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tcpip_wasm import CaptureFormatError
from tcpip_wasm.capture import CapturedFrame, PcapngWriter, link_types, read_capture
from tests.kit.frames import samples

FRAMES = samples(b"\2\0\0\0\0\1", ("10.0.0.1", "fd00::1"), b"\2\0\0\0\0\2", ("10.0.0.2", "fd00::2"), 80)
TIME = 1_700_000_000_123_456_789
MAC = b"\2\0\0\0\0\1"


def write(file: Path | io.BytesIO, *, snaplen: int = 0) -> list[CapturedFrame]:
    """Write the samples, alternately at a TAP and as packets at a TUN interface; return the expected frames."""
    expected = []
    with PcapngWriter(file, snaplen=snaplen, comment="all samples") as writer:
        tap = writer.add_interface("täp0", mac=MAC, description="the first")
        tun = writer.add_interface("tun0", link_types.RAW)
        for number, (name, frame) in enumerate(FRAMES.items()):
            is_tap = "arp" in name or number % 2 == 0
            data = frame if is_tap else frame[14:]
            outgoing = (None, True, False)[number % 3]
            comment = f"dropped: {name} €" if number % 4 == 0 else None
            writer.write(tap if is_tap else tun, TIME + number, data, outgoing=outgoing, comment=comment)
            kept = data[:snaplen] if snaplen else data
            point = ("täp0", link_types.ETHERNET) if is_tap else ("tun0", link_types.RAW)
            expected.append(CapturedFrame(TIME + number, *point, outgoing, kept, len(data), comment))
    return expected


def tshark(path: Path, *fields: str, filter: str = "") -> list[list[str]]:  # noqa: A002
    if shutil.which("tshark") is None:
        pytest.skip("needs tshark")
    done = subprocess.run(
        [
            *("tshark", "-n", "-r", str(path), "-T", "fields", "-E", "separator=/t"),
            *(("-Y", filter) if filter else ()),
            *(part for field in fields for part in ("-e", field)),
        ],
        capture_output=True,
        text=True,
        timeout=250,
        check=True,
    )
    return [line.split("\t") for line in done.stdout.splitlines()]


@pytest.mark.parametrize("snaplen", [0, 60])
def test_files_are_read_back(snaplen: int) -> None:
    file = io.BytesIO()
    expected = write(file, snaplen=snaplen)
    assert not file.closed
    file.seek(0)
    assert list(read_capture(file)) == expected


@pytest.mark.parametrize("snaplen", [0, 60])
def test_tshark_reads_it(tmp_path: Path, snaplen: int) -> None:
    path = tmp_path / "a.pcapng"
    expected = write(path, snaplen=snaplen)
    columns = ("frame.time_epoch", "frame.interface_name", "frame.packet_flags", "frame.comment", "frame.len")
    read = tshark(path, *columns, "frame.cap_len", "frame.encap_type")
    assert [row[:6] for row in read] == [
        [
            f"{frame.time // 10**9}.{frame.time % 10**9:09}",
            frame.interface,
            {None: "", True: "0x00000002", False: "0x00000001"}[frame.outgoing],
            frame.comment or "",
            str(frame.length),
            str(len(frame.frame)),
        ]
        for frame in expected
    ]
    assert [row[6] for row in read] == ["1" if f.link_type == link_types.ETHERNET else "7" for f in expected]


def test_tshark_reports_no_error_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    expected = write(path)
    if shutil.which("capinfos") is None:
        pytest.skip("needs capinfos")
    done = subprocess.run(["capinfos", "-M", str(path)], capture_output=True, text=True, timeout=250, check=True)
    assert "error" not in done.stderr
    assert "Number of interfaces in file: 2" in done.stdout
    assert done.stdout.count("Time resolution = 0x09") == 2
    assert f"Number of packets:   {len(expected)}\n" in done.stdout
    assert "all samples" in done.stdout


def test_dpkt_and_scapy_read_it(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    expected = write(path)
    with path.open("rb") as file:
        assert [data for _, data in dpkt.pcapng.Reader(file)] == [frame.frame for frame in expected]
    from scapy.utils import RawPcapNgReader

    with RawPcapNgReader(str(path)) as reader:
        theirs = list(reader)
    assert [data for data, _ in theirs] == [frame.frame for frame in expected]
    metadata: Any
    for (_, metadata), frame in zip(theirs, expected, strict=True):
        assert (metadata.tshigh << 32 | metadata.tslow) == frame.time
        assert metadata.tsresol == 10**9
        assert metadata.linktype == frame.link_type


def test_a_file_is_written_in_parts_and_can_be_read_before_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    writer = PcapngWriter(path)
    number = writer.add_interface("tap0")
    for count in (1, 2):
        writer.write(number, TIME, FRAMES["udp 4"], outgoing=True)
        writer.flush()
        assert [frame.frame for frame in read_capture(path)] == [FRAMES["udp 4"]] * count
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        writer.write(number, TIME, b"frame")


class Reluctant(io.RawIOBase):
    """Accepts a few bytes at a time, as an unbuffered pipe may."""

    def __init__(self) -> None:
        self.data = b""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        part = bytes(data)[:7]  # type: ignore[call-overload]
        self.data += part
        return len(part)


def test_a_file_with_short_writes() -> None:
    file, whole = Reluctant(), io.BytesIO()
    assert write(file) == write(whole)  # type: ignore[arg-type]
    assert file.data == whole.getvalue()


@pytest.mark.parametrize("time", [-1, 1 << 64])
def test_a_time_out_of_range(time: int) -> None:
    writer = PcapngWriter(io.BytesIO())
    writer.add_interface("tap0")
    with pytest.raises(ValueError, match=f"time: {time} ns"):
        writer.write(0, time, b"frame")
    with pytest.raises(ValueError, match="interface: 1 is not one of the 1"):
        writer.write(1, 0, b"frame")
    with pytest.raises(ValueError, match="snaplen"):
        PcapngWriter(io.BytesIO(), snaplen=-1)


def test_a_comment_that_is_too_long_is_cut_at_a_character() -> None:
    file = io.BytesIO()
    writer = PcapngWriter(file)
    writer.write(writer.add_interface("tap0"), 0, b"frame", comment="€" * 30_000)
    file.seek(0)
    (frame,) = read_capture(file)
    assert frame.comment == "€" * (65_535 // 3)


# --- Files of others ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("magic", "unit"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
def test_pcap(order: str, magic: int, unit: int) -> None:
    file = io.BytesIO(
        struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 65535, link_types.RAW)
        + struct.pack(f"{order}IIII", 5, 6, 3, 9)
        + b"abc"
        + struct.pack(f"{order}IIII", 7, 8, 0, 0)
    )
    assert list(read_capture(file)) == [
        CapturedFrame(5 * 10**9 + 6 * unit, "interface 0", link_types.RAW, None, b"abc", 9),
        CapturedFrame(7 * 10**9 + 8 * unit, "interface 0", link_types.RAW, None, b"", 0),
    ]


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack(f"{order}II", kind, len(body) + 12) + body + struct.pack(f"{order}I", len(body) + 12)


def section(order: str) -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_of_others(order: str) -> None:
    def option(code: int, value: bytes) -> bytes:
        return struct.pack(f"{order}HH", code, len(value)) + value + bytes(-len(value) % 4)

    milliseconds = option(9, b"\3") + option(14, struct.pack(f"{order}q", 100)) + option(0, b"")
    binary = option(2, b"eth1") + option(9, b"\x8a")  # 1/1024 s, and no end of the options
    packet = struct.pack(f"{order}IIIII", 1, 0, 512, 2, 2) + b"hi\0\0" + option(1, b"one") + option(1, b"two")
    file = io.BytesIO(
        section(order)
        + block(order, 1, struct.pack(f"{order}HHI", 1, 0, 4) + milliseconds)
        + block(order, 1, struct.pack(f"{order}HHI", 101, 0, 0) + binary)
        + block(order, 5, b"statistics of an interface")
        + block(order, 0x0BAD, b"what nobody knows")
        + block(
            order, 6, struct.pack(f"{order}IIIII", 0, 1, 0, 3, 3) + b"abc\0" + option(2, struct.pack(f"{order}I", 2))
        )
        + block(order, 6, packet)
        + block(order, 3, struct.pack(f"{order}I", 6) + b"simple")
        + section("<" if order == ">" else ">")
    )
    assert list(read_capture(file)) == [
        CapturedFrame((2**32 + 100_000) * 10**6, "interface 0", 1, True, b"abc", 3),
        CapturedFrame(500_000_000, "eth1", 101, None, b"hi", 2, "one; two"),
        CapturedFrame(0, "interface 0", 1, None, b"simp", 6),
    ]


@pytest.mark.parametrize(
    ("data", "text", "offset"),
    [
        (b"", "ends in the first four bytes", 0),
        (b"GIF89a", "neither pcapng nor pcap: it begins with 47 49 46 38", 0),
        (section("<")[:20], "ends in a block", 12),
        (section("<") + b"\1\0", "ends in the type of a block", 28),
        (section("<") + struct.pack("<II", 1, 8), "a block of 8 bytes", 28),
        (section("<") + struct.pack("<II", 1, 0xFFFFFFF0), "a block of 4294967280 bytes", 28),
        (section("<") + struct.pack("<III", 5, 12, 16), "ends with another length", 28),
        (section("<") + block("<", 6, struct.pack("<IIIII", 0, 0, 0, 0, 0)), "of interface 0, of 0", 28),
        (section("<") + block("<", 3, b"\0\0\0\0"), "before any interface", 28),
        (section("<") + block("<", 1, b"\1\0\0\0"), "shorter than its fields", 28),
        (section("<") + block("<", 1, b"\1\0\0\0\0\0\0\0\2\0\xff\xff"), "an option of 65535 bytes where 0", 28),
        (section("<")[:8] + b"\4\3\2\1" + section("<")[12:], "byte-order magic 04 03 02 01", 0),
        (section("<")[:12] + b"\2" + section("<")[13:], "section of version 2", 0),
        (struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + b"\0" * 15, "ends in the header of a packet", 24),
        (struct.pack("<IHHiIIIIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1, 0, 0, 1 << 31, 0), "of 2147483648 bytes", 24),
    ],
)  # fmt: skip
def test_damaged_files(data: bytes, text: str, offset: int) -> None:
    with pytest.raises(CaptureFormatError) as caught:
        list(read_capture(io.BytesIO(data)))
    assert text in str(caught.value)
    assert str(caught.value).endswith(f", at offset {offset}")
    assert caught.value.offset == offset


def read(data: bytes) -> tuple[list[CapturedFrame], int]:
    """Return the frames that can be read, and the offset of the damage or 0."""
    frames = []
    try:
        for frame in read_capture(io.BytesIO(data)):
            frames.append(frame)
    except CaptureFormatError as error:
        return frames, error.offset
    return frames, 0


def test_what_comes_before_the_damage_is_read() -> None:
    file = io.BytesIO()
    expected = write(file)
    whole = file.getvalue()
    ends = set()
    for length in range(0, len(whole), 7):
        got, offset = read(whole[:length])
        assert offset <= length
        assert got == expected[: len(got)]
        ends.add(len(got))
    assert ends == set(range(len(expected)))


_WHOLE = io.BytesIO()
write(_WHOLE)


@settings(max_examples=400)
@given(
    st.lists(st.tuples(st.integers(0, len(_WHOLE.getvalue()) - 1), st.integers(0, 255)), min_size=1, max_size=8),
    st.integers(0, 64),
)
def test_random_blocks_of_a_file(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(_WHOLE.getvalue())
    for at, value in changes:
        data[at] = value
    frames, offset = read(bytes(data[: len(data) - cut]))
    assert 0 <= offset <= len(data)
    assert all(len(frame.frame) <= len(data) for frame in frames)


@settings(max_examples=200)
@given(st.binary(max_size=200), st.sampled_from([section("<"), section(">"), b"\xd4\xc3\xb2\xa1", b""]))
def test_random_files(data: bytes, before: bytes) -> None:
    _, offset = read(before + data)
    assert 0 <= offset <= len(before + data)
