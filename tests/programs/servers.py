"""The servers: each is started on the running loop, by the loop's own methods, and stopped."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from pathlib import Path
from typing import Any, Final

import aioftp
import asyncssh
import uvicorn
import websockets.asyncio.server
from aiosmtpd.smtp import SMTP, Envelope, Session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.kit.polling import poll
from tests.programs.bodies import blocks

COMMAND: Final = r"sed -u -n -e '/^exit$/q7' -e 's/.*/\U&/p'"
"""The command that is run over ssh: it answers each line in upper case, and "exit" ends it with status 7."""


# --- HTTP -------------------------------------------------------------------------------------------------------------


async def _hello(request: Request) -> Response:
    return PlainTextResponse(f"hello {request.client.host if request.client else '?'}")


async def _down(request: Request) -> Response:
    return StreamingResponse(blocks(int(request.query_params["megabytes"])), media_type="application/octet-stream")


async def _up(request: Request) -> Response:
    digest, size = hashlib.sha256(), 0
    async for chunk in request.stream():
        digest.update(chunk)
        size += len(chunk)
    return JSONResponse({"sha256": digest.hexdigest(), "size": size})


async def _wait(request: Request) -> Response:
    """Answer once a given number of requests are in flight."""
    state = request.app.state
    state.waiting = getattr(state, "waiting", 0) + 1
    if not hasattr(state, "all_here"):
        state.all_here = asyncio.Event()
    if state.waiting >= int(request.query_params["count"]):
        state.all_here.set()
    await state.all_here.wait()
    return PlainTextResponse(request.query_params["number"])


async def _echo(socket: WebSocket) -> None:
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text.upper())


def application() -> Starlette:
    """Return the application for all HTTP clients."""
    routes = [
        Route("/", _hello),
        Route("/down", _down),
        Route("/up", _up, methods=["POST"]),
        Route("/wait", _wait),
        WebSocketRoute("/echo", _echo),
    ]
    return Starlette(routes=routes)


class HttpServer(uvicorn.Server):
    """uvicorn with the application, but signals stay the program's.

    Args:
        host, port: where it listens.
        certificate: PEM files of its certificate and key; given, it speaks TLS.
        options: of `uvicorn.Config`.
    """

    def __init__(self, host: str, port: int, certificate: tuple[str, str] | None = None, **options: Any) -> None:
        if certificate is not None:
            options["ssl_certfile"], options["ssl_keyfile"] = certificate
        # Tests count connections, and on a busy machine there are long pauses between two requests.
        options.setdefault("timeout_keep_alive", 300)
        options |= {"lifespan": "off", "log_config": None, "ws": "websockets-sansio", "access_log": False}
        super().__init__(uvicorn.Config(application(), host=host, port=port, **options))
        self._serving: asyncio.Task[None] | None = None

    def install_signal_handlers(self) -> None:
        return None

    async def begin(self) -> None:
        """Return once it listens."""
        self._serving = serving = asyncio.create_task(self.serve())
        await poll(lambda: self.started or serving.done())
        assert not serving.done(), serving.result()

    async def end(self) -> None:
        """Stop it after the current requests."""
        assert self._serving is not None
        self.should_exit = True
        await self._serving


# --- Others -----------------------------------------------------------------------------------------------------------


async def _send_back(connection: websockets.asyncio.server.ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def serve_websockets(host: str, port: int, context: ssl.SSLContext | None) -> websockets.asyncio.server.Server:
    """Serve an echo of messages."""
    return await websockets.asyncio.server.serve(_send_back, host, port, ssl=context, compression=None)


class _Mailbox:
    """A handler of aiosmtpd that answers with the number of recipients, the SHA-256, and whether TLS was used."""

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        digest = hashlib.sha256(envelope.content).hexdigest()
        return f"250 {len(envelope.rcpt_tos)} {digest} {'plain' if session.ssl is None else 'tls'}"


async def serve_mail(host: str, port: int, context: ssl.SSLContext) -> asyncio.AbstractServer:
    """Serve SMTP, with optional STARTTLS, which aiosmtpd implements with asyncio's own SSL protocol."""
    loop = asyncio.get_running_loop()

    def factory() -> SMTP:
        return SMTP(_Mailbox(), hostname="mail.test", loop=loop, tls_context=context)

    return await loop.create_server(factory, host, port)


async def serve_files(host: str, port: int, folder: Path) -> aioftp.Server:
    """Serve an existing folder by FTP, without a login."""
    server = aioftp.Server([aioftp.User(base_path=folder)], block_size=65536)
    await server.start(host, port)
    return server


async def _shell(process: asyncssh.SSHServerProcess[str]) -> None:
    """Behave as `COMMAND`."""
    assert process.command == COMMAND
    async for line in process.stdin:
        if line == "exit\n":
            break
        process.stdout.write(line.upper())
    process.exit(7)


async def serve_ssh(host: str, port: int, key: Path, folder: Path) -> asyncssh.SSHAcceptor:
    """Serve the command, and a folder by sftp.

    Args:
        host, port: where it listens.
        key: file of the host's private key; who has the same may come in.
        folder: what sftp shows; it is there.
    """

    def sftp(channel: asyncssh.SSHServerChannel[bytes]) -> asyncssh.SFTPServer:
        return asyncssh.SFTPServer(channel, chroot=str(folder).encode())

    public = asyncssh.read_private_key(key).export_public_key().decode()
    return await asyncssh.listen(
        host,
        port,
        server_host_keys=[str(key)],
        authorized_client_keys=asyncssh.import_authorized_keys(public),
        process_factory=_shell,
        sftp_factory=sftp,
        config=None,
    )
