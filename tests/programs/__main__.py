"""All servers at once, until the process is killed: `python -m tests.programs HOST FOLDER`.

The folder has a certificate, its key, and a key for ssh: ``certificate.pem``, ``key.pem``, ``ssh_key``; what
is stored by FTP and sftp goes into its folders ``ftp`` and ``sftp``.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from pathlib import Path

from tests.programs.ports import FTP, HTTP, HTTPS, SMTP, SSH, WS, WSS
from tests.programs.servers import HttpServer, serve_files, serve_mail, serve_ssh, serve_websockets


async def main(host: str, folder: Path) -> None:
    """Start them, and print a line when they listen."""
    certificate = str(folder / "certificate.pem"), str(folder / "key.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    await HttpServer(host, HTTP).begin()
    await HttpServer(host, HTTPS, certificate).begin()
    running = [
        await serve_websockets(host, WS, None),
        await serve_websockets(host, WSS, context),
        await serve_mail(host, SMTP, context),
        await serve_files(host, FTP, folder / "ftp"),
        await serve_ssh(host, SSH, folder / "ssh_key", folder / "sftp"),
    ]
    print(f"{len(running) + 2} servers are ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
