"""Blocking clients: each is called inside `polyfill_socket`, and checks the responses."""

from __future__ import annotations

import ftplib
import hashlib
import json
import smtplib
import urllib.request
from typing import Any, Final

import requests

from tests.kit.tls import client_context
from tests.programs.bodies import Body, digest, received
from tests.programs.clients import ROUNDS, letter

BOUND: Final = 60.0
"""Time limit of a single call in seconds."""


def urllib_client(url: str, own: str, megabytes: int) -> None:
    """Fetch a small and a large body, and send a large one, each over its own connection.

    Args:
        url: the server's, without a path.
        own: the client's address.
        megabytes: size of the large bodies.
    """
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=client_context())
    )
    with opener.open(f"{url}/", timeout=BOUND) as response:
        assert response.read() == b"hello " + own.encode()
    arrived = hashlib.sha256()
    with opener.open(f"{url}/down?megabytes={megabytes}", timeout=BOUND) as response:
        while chunk := response.read(1 << 20):
            arrived.update(chunk)
    assert arrived.hexdigest() == digest(megabytes)
    body = Body(megabytes)
    length = {"Content-Length": str(len(body))}
    request = urllib.request.Request(f"{url}/up", data=body, headers=length, method="POST")
    with opener.open(request, timeout=BOUND) as response:
        assert json.load(response) == received(megabytes)


class _Adapter(requests.adapters.HTTPAdapter):
    """Trusts the test's authority."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> Any:
        return super().init_poolmanager(*arguments, ssl_context=client_context(), **options)

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        """The context trusts the test's authority."""


def requests_client(url: str, own: str, megabytes: int) -> None:
    """Like `urllib_client`, over one persistent connection."""
    with requests.Session() as session:
        session.trust_env = False
        session.mount("https://", _Adapter())
        for _ in range(ROUNDS):
            assert session.get(f"{url}/", timeout=BOUND).text == f"hello {own}"
        down = session.get(f"{url}/down", params={"megabytes": megabytes}, timeout=BOUND, stream=True)
        arrived = hashlib.sha256()
        for chunk in down.iter_content(1 << 20):
            arrived.update(chunk)
        assert arrived.hexdigest() == digest(megabytes)
        up = session.post(f"{url}/up", data=Body(megabytes), timeout=BOUND)
        assert up.json() == received(megabytes)
        adapter = session.get_adapter(url)
        assert isinstance(adapter, requests.adapters.HTTPAdapter)
        pools = adapter.poolmanager.pools
        (key,) = pools.keys()
        pool = pools[key]
        assert (pool.num_connections, pool.num_requests) == (1, ROUNDS + 2)


def smtplib_client(host: str, port: int, tls: bool) -> None:
    """Send mails; the server reports what it received."""
    with smtplib.SMTP(host, port, "a.test", timeout=BOUND) as client:
        if tls:
            client.starttls(context=client_context())
        client.ehlo()
        for number in range(3):
            mail = letter(number)
            assert client.mail("alice@a.test")[0] == 250
            assert client.rcpt("bob@b.test")[0] == 250
            code, answer = client.data(mail)
            arrived = f"1 {hashlib.sha256(mail).hexdigest()} {'tls' if tls else 'plain'}"
            assert (code, answer) == (250, arrived.encode())


def ftplib_client(host: str, port: int, megabytes: int) -> None:
    """Store a file and fetch it, each over a connection to a port that the server names."""
    with ftplib.FTP(timeout=BOUND) as client:
        client.connect(host, port)
        client.login()
        client.storbinary("STOR file", Body(megabytes), blocksize=65536)
        arrived = hashlib.sha256()
        client.retrbinary("RETR file", arrived.update, blocksize=65536)
        assert arrived.hexdigest() == digest(megabytes)
        client.storbinary("STOR small", Body(1))
        sizes = {name: int(facts["size"]) for name, facts in client.mlsd()}
        assert sizes == {"file": len(Body(megabytes)), "small": len(Body(1))}
        client.delete("file")
        client.delete("small")
        assert list(client.mlsd()) == []
