"""Readable and writable streams: the interface of the WHATWG Streams standard in asyncio's spelling.

This package owns locks, order, backpressure, `pipe_to`, `pipe_through`, `tee` and transforms. It must not
know what a chunk is nor where it comes from: a socket or an interface hands in a `Source` or a `Sink`, and
nothing is imported from them. Nor is it a buffer; the only chunks it ever holds are counted below.

    Source ──► ReadableStream ──get_reader()──► ReadableStreamReader.read()
                     │ pipe_to, pipe_through, tee
                     ▼
    Sink ◄──── WritableStream ◄──get_writer()── WritableStreamWriter.write()

Rules that hold everywhere:

- A source that has a chunk and a sink that has room are served without an iteration of the event loop. So a loop
  around `read` or `write` yields only when it has to wait; `pipe_to` also does after `PIPE_BURST` chunks.
- Overlapping reads of one reader, and writes of one writer, are served in the order of their calls.
- A cancelled read takes no chunk. A cancelled write has handed over the whole chunk or nothing of it.
- Chunks held here: one that a pipe had read and its sink refused (the next reader gets it first), up to
  `TEE_LIMIT` for the slower branch of a `tee`, `TRANSFORM_LIMIT` and one call's results in a transform.
- Nothing here is thread-safe: a stream belongs to one event loop.

    protocols    what a stream reads from and writes to: `Source`, `Sink`
    locks        one user at a time, in the order of their calls; `Signal`, which tasks wait for
    state        what a stream and its one user work on together
    readable     `ReadableStream`, its reader, iteration
    writable     `WritableStream`, its writer
    pipe         `pipe_to` and `pipe_through`
    tee          two readers of one stream
    transform    `TransformStream`

Names that begin with an underscore are private to this package, not to one module of it.

Where it departs from the standard: leaving an `async for` early releases the readable, but cancels nothing; a
`tee` is bounded; a failed `TransformStream` still delivers what it had finished; closing twice is no error.
"""

from tcpip_wasm.streams.pipe import PIPE_BURST
from tcpip_wasm.streams.protocols import EndOfStream, Sink, Source, StreamPair
from tcpip_wasm.streams.readable import ReadableStream, ReadableStreamReader
from tcpip_wasm.streams.tee import TEE_LIMIT
from tcpip_wasm.streams.transform import TRANSFORM_LIMIT, TransformStream
from tcpip_wasm.streams.writable import WritableStream, WritableStreamWriter

__all__ = [
    "PIPE_BURST",
    "TEE_LIMIT",
    "TRANSFORM_LIMIT",
    "EndOfStream",
    "ReadableStream",
    "ReadableStreamReader",
    "Sink",
    "Source",
    "StreamPair",
    "TransformStream",
    "WritableStream",
    "WritableStreamWriter",
]
