"""Checks the engine port of Pyodide: limits, growth, traps, arguments out of range, and buffers that are copies."""

import asyncio
import errno
import gc
from ipaddress import IPv4Address

from tcpip_wasm.engine import Core, abi, record_size, seed_bytes
from tcpip_wasm.engine.instance import PAGE, Instance
from tcpip_wasm.engine.javascript_engine.module import js, limit_memory
from tcpip_wasm.errors import ModuleMismatchError, StackTrappedError
from tcpip_wasm.interfaces import Interface
from tcpip_wasm.stack import create_stack


def core(**options: object) -> Core:
    return Core(now=0.0, seed=seed_bytes(1), instance=Instance(**options))  # type: ignore[arg-type]


def growth() -> None:
    one = core()
    before = one.statistics().memory
    first = one.add_interface(abi.KIND_TUN, 1500)
    second = one._instance  # a second reader of the same memory, whose arrays the growth below detaches
    others = [one.add_interface(abi.KIND_TUN, 1500) for _ in range(20)]
    assert one.statistics().memory > before
    assert len({first.handle, *(other.handle for other in others)}) == 21
    # The typed arrays are detached by a growth that the package does not see.
    one._instance._sandbox._exports.memory.grow(1)  # type: ignore[attr-defined]
    assert second.words[first._block] == first._receive_start
    one._instance._sandbox._exports.memory.grow(1)  # type: ignore[attr-defined]
    second.words[first._receive_length] = 0
    one._instance._sandbox._exports.memory.grow(1)  # type: ignore[attr-defined]
    second.memory[first._receive_start : first._receive_start + 4] = b"abcd"
    assert bytes(second.memory[first._receive_start : first._receive_start + 4]) == b"abcd"
    second.memory[first._receive_start : first._receive_start] = b""
    assert bytes(second.memory[first._receive_start : first._receive_start]) == b""
    try:
        second.memory[len(second.memory) - 2 : len(second.memory) + 2] = b"abcd"
    except ValueError:
        pass
    else:
        raise AssertionError("a write beyond the end of memory is refused")


def limits() -> None:
    limited = core(memory_limit=40 * PAGE)
    made, refused = 0, 0
    while made < abi.MAX_INTERFACES and not refused:
        try:
            limited.add_interface(abi.KIND_TUN, 1500)
            made += 1
        except OSError as error:
            refused = error.errno or 0
    assert (0 < made < 20, refused) == (True, errno.ENOBUFS), (made, refused)
    assert limited.statistics().memory <= 40 * PAGE
    try:
        core(memory_limit=PAGE)
    except ModuleMismatchError:
        pass
    else:
        raise AssertionError("a limit below the initial size is refused")
    # A memory of at least 1 page and at most 200, then one without a maximum.
    head = b"\0asm\1\0\0\0"
    assert limit_memory(head + b"\5\5\1\1\1\xc8\1", 100) == head + b"\5\4\1\1\1\x64"
    assert limit_memory(head + b"\5\3\1\0\1" + b"\7\1\0", 300) == head + b"\5\5\1\1\1\xac\2" + b"\7\1\0"


def arguments() -> None:
    one = core()
    handle = one.tcp_listen(None, 80, 1)
    try:
        one.calls.call("tcp_option", handle, abi.OPTION_NODELAY, 1 << 60)
    except OverflowError:
        pass
    else:
        raise AssertionError("an integer that JavaScript does not have is refused")
    one.poll(1.0)
    one.poll(2)


def trap() -> None:
    one = core()
    one.add_interface(abi.KIND_TUN, 1500).receive_frame(b"\xff" * 64)
    words = one._instance.words
    for index in range(len(words) // 2, len(words)):  # the address of the receive buffer is there
        words[index] = 0xFFFFFFFC
    failures: list[StackTrappedError] = []
    for second in range(1, 5):
        try:
            one.tcp_connect(IPv4Address("10.0.0.1"), 80)
            one.add_interface(abi.KIND_TUN, 1500)
            one.poll(float(second))
        except StackTrappedError as error:
            failures.append(error)
        except OSError:
            pass
    assert failures, "memory that is overwritten makes the module trap"
    assert all(failure is failures[0] for failure in failures)
    core().poll(1.0)


def checksum(data: bytes) -> bytes:
    """Return the Internet checksum of an even number of bytes (RFC 1071)."""
    total = sum(int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2)


def echo_request() -> bytes:
    """Return an IPv4 packet with an ICMP echo request from 10.0.0.2 to 10.0.0.1."""
    icmp = b"\x08\0\0\0\0\1\0\1"
    icmp = icmp[:2] + checksum(icmp) + icmp[4:]
    header = bytes.fromhex("4500001c000100004001" + "0000" + "0a0000020a000001")
    return header[:10] + checksum(header) + header[12:] + icmp


class Observer:
    """Keeps what it observes."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def observed(self, interface: Interface, outgoing: bool, frame: memoryview, /) -> None:
        self.frames.append(bytes(frame))

    def unobserved(self, interface: Interface, /) -> None:
        pass


async def buffers() -> None:
    async with await create_stack() as stack:
        tun = await stack.create_tun_interface(ip="10.0.0.1/24")
        observer = Observer()
        tun.observe(observer)
        request = echo_request()
        reader = tun.readable.get_reader()
        view = tun.receive_buffer()
        view[:4] = len(request).to_bytes(4, "little")
        view[4 : 4 + len(request)] = request
        tun.commit_received(record_size(len(request)))
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer is not None
        assert answer[12:20] == bytes([10, 0, 0, 1, 10, 0, 0, 2]), answer.hex()
        assert tun.inject(request)
        again = await asyncio.wait_for(reader.read(), 5)
        assert again is not None
        assert observer.frames == [request, answer, request, again], [frame.hex() for frame in observer.frames]


def collect() -> None:
    """Collect the garbage of Python, then that of JavaScript."""
    gc.collect()
    js.process.getBuiltinModule("v8").setFlagsFromString("--expose-gc")
    js.process.getBuiltinModule("vm").runInNewContext("gc")()


async def leaks() -> None:
    one = core()
    buffers = one.add_interface(abi.KIND_TUN, 1500)
    used = []
    for frames in (1000, 30_000):
        for number in range(frames):
            buffers.receive_frame(b"a frame")
            bytes(buffers.receive_view()[:4])
            if number % 100 == 0:
                one.poll(number / 1e3)
                one.counted()
        await asyncio.sleep(0.01)
        collect()
        used.append(int(js.process.memoryUsage().heapUsed))
    assert used[1] - used[0] < 3 << 20, "each frame makes some typed arrays, of some 100 bytes"
    memory = js.WeakRef.new(one._instance._sandbox._exports.memory)  # type: ignore[attr-defined]
    assert memory.deref() is not None
    one.close()
    del one, buffers
    await asyncio.sleep(0.01)  # a reference that was looked at lives until the end of a macrotask
    collect()
    assert memory.deref() is None, "the memory of a stack that is gone is released"


async def main() -> None:
    growth()
    limits()
    arguments()
    trap()
    await buffers()
    await leaks()
    print("the engine port works")


asyncio.run(main())
