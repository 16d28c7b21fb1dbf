"""`Files`, an ASGI application that serves a folder: ranges, conditions, types, and lists of what is in a folder.

The folder is read in threads of the loop's executor. What may be read is decided by `services.folder`.
"""

from __future__ import annotations

import asyncio
import html
import mimetypes
import os
import stat
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

from tcpip_wasm.services.folder import Folder
from tcpip_wasm.services.http.ranges import entity_tag, find_range, http_date, is_same, is_unchanged

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

CHUNK: Final = 256 * 1024
"""Bytes that are read from a file at once."""

MAX_LISTED: Final = 10_000
"""Names in a list."""

_TYPES: Final = mimetypes.MimeTypes()  # without the files of the machine
_ENCODED: Final = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
_PAGE: Final = (
    "<!DOCTYPE html>\n<html><head><meta charset='utf-8'><title>{title}</title></head>\n"
    "<body><h1>{title}</h1>\n<ul>\n{items}</ul>\n</body></html>\n"
)


class Files:
    """An ASGI application.

    Args:
        folder: what is served.
        listing: whether folders without an ``index.html`` are listed.
    """

    def __init__(self, folder: Folder, *, listing: bool = True) -> None:
        self._folder = folder
        self._listing = listing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["method"] not in ("GET", "HEAD"):
            await _send_text(scope, send, 405, "only GET and HEAD", [(b"allow", b"GET, HEAD")])
            return
        names, is_folder = _names(scope.get("raw_path") or quote(scope["path"]).encode())
        try:
            descriptor = await asyncio.to_thread(self._folder.open, names)
        except FileNotFoundError:
            await _send_text(scope, send, 404, "no such file")
            return
        except OSError:
            await _send_text(scope, send, 403, "not readable")
            return
        try:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                await self._send_folder(scope, send, names, descriptor, is_folder)
            elif is_folder:
                await _send_text(scope, send, 404, "no such folder")
            else:
                await _send_file(scope, send, names[-1], descriptor)
        finally:
            os.close(descriptor)

    async def _send_folder(
        self, scope: Scope, send: Send, names: list[bytes], descriptor: int, is_folder: bool
    ) -> None:
        if not is_folder:
            # A path alone, with one slash at its front: "//host/" would lead to another host.
            target = "/" + "/".join(quote(name) for name in names) + "/"
            await _send_text(scope, send, 301, "a folder", [(b"location", target.encode())])
            return
        try:
            index = await asyncio.to_thread(self._folder.open, [*names, b"index.html"])
        except OSError:
            index = None
        if index is not None:
            try:
                if stat.S_ISREG(os.fstat(index).st_mode):
                    await _send_file(scope, send, b"index.html", index)
                    return
            finally:
                os.close(index)
        if not self._listing:
            await _send_text(scope, send, 403, "not listed")
            return
        body = await asyncio.to_thread(_list, descriptor, self._folder, names)
        headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-security-policy", b"default-src 'none'")]
        await _send(scope, send, 200, headers, body)


def _names(raw_path: bytes) -> tuple[list[bytes], bool]:
    """Return the names of a path, each decoded once, and whether it ends as that of a folder."""
    parts = raw_path.split(b"/")[1:] if raw_path.startswith(b"/") else [b".."]
    is_folder = parts[-1] == b""
    return [unquote_to_bytes(part) for part in (parts[:-1] if is_folder else parts)], is_folder


def _list(descriptor: int, folder: Folder, names: list[bytes]) -> bytes:
    """Return the page that lists a folder."""
    path = folder.root.joinpath(*map(os.fsdecode, names))
    entries = []
    with os.scandir(descriptor if os.scandir in os.supports_fd else path) as scanned:
        for entry in scanned:
            entries.append(entry.name + ("/" if entry.is_dir(follow_symlinks=False) else ""))
            if len(entries) >= MAX_LISTED:
                break
    items = "" if not names else '<li><a href="../">../</a></li>\n'
    for name in sorted(entries):
        shown = html.escape(os.fsencode(name).decode("utf-8", "replace"))
        items += f'<li><a href="./{quote(os.fsencode(name))}">{shown}</a></li>\n'
    title = html.escape(b"/".join([b"", *names, b""]).decode("utf-8", "replace"))
    return _PAGE.format(title=title, items=items).encode()


async def _send_file(scope: Scope, send: Send, name: bytes, descriptor: int) -> None:
    status = os.fstat(descriptor)
    fields = {key.lower(): value.decode("latin-1") for key, value in scope["headers"]}
    tag, modified = entity_tag(status.st_size, status.st_mtime_ns), status.st_mtime
    headers = [
        (b"accept-ranges", b"bytes"),
        (b"etag", tag.encode()),
        (b"last-modified", http_date(modified).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    if is_unchanged(fields.get(b"if-none-match"), fields.get(b"if-modified-since"), tag, modified):
        await _send(scope, send, 304, headers, b"")
        return
    headers.append((b"content-type", _content_type(name)))
    begin, end, code = 0, status.st_size, 200
    condition = fields.get(b"if-range")
    if condition is None or is_same(condition, tag, modified):
        try:
            wanted = find_range(fields.get(b"range"), status.st_size)
        except ValueError:
            headers.append((b"content-range", b"bytes */%d" % status.st_size))
            await _send(scope, send, 416, headers, b"")
            return
        if wanted is not None:
            begin, end = wanted
            code = 206
            headers.append((b"content-range", b"bytes %d-%d/%d" % (begin, end - 1, status.st_size)))
    headers.append((b"content-length", str(end - begin).encode()))
    await send({"type": "http.response.start", "status": code, "headers": headers})
    if scope["method"] == "GET":
        with os.fdopen(os.dup(descriptor), "rb", buffering=0) as file:
            file.seek(begin)
            while begin < end:
                data = await asyncio.to_thread(file.read, min(CHUNK, end - begin))
                if not data:  # it became shorter: the connection ends before the length that was promised
                    return
                begin += len(data)
                await send({"type": "http.response.body", "body": data, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _content_type(name: bytes) -> bytes:
    kind, encoding = _TYPES.guess_type(name.decode("utf-8", "replace"))
    if encoding is not None:
        return _ENCODED.get(encoding, "application/octet-stream").encode()
    if kind is None:
        return b"application/octet-stream"
    return kind.encode() + (b"; charset=utf-8" if kind.startswith("text/") else b"")


async def _send_text(
    scope: Scope, send: Send, status: int, text: str, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    kind = (b"content-type", b"text/plain; charset=utf-8")
    await _send(scope, send, status, [*(headers or []), kind], f"{status}: {text}\n".encode())


async def _send(scope: Scope, send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    if status != 304:
        headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body if scope["method"] != "HEAD" else b""})
