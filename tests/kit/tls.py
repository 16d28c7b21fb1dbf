"""Certificates for tests: one authority, and TLS contexts of a server and of a client that trusts it."""

from __future__ import annotations

import ssl
from functools import cache
from typing import Final

import trustme

NAMES: Final = ("10.0.0.2", "fd00::2", "10.88.0.2", "fd88::2", "127.0.0.1", "::1", "server.test")
"""Hosts of tests that have a certificate: virtual ones, and the kernel in a namespace."""


@cache
def _authority() -> trustme.CA:
    return trustme.CA()


@cache
def server_context(*names: str) -> ssl.SSLContext:
    """Return a server's context with a certificate for these hosts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _authority().issue_cert(*(names or NAMES)).configure_cert(context)
    return context


@cache
def client_context() -> ssl.SSLContext:
    """Return the context of a client that trusts the authority and checks names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _authority().configure_trust(context)
    return context


@cache
def certificate_files(folder: str) -> tuple[str, str, str]:
    """Write (authority, certificate, key) as PEM files into a folder, for programs that take paths."""
    authority, certificate, key = (f"{folder}/{name}.pem" for name in ("authority", "certificate", "key"))
    issued = _authority().issue_cert(*NAMES)
    _authority().cert_pem.write_to_path(authority)
    for number, blob in enumerate(issued.cert_chain_pems):
        blob.write_to_path(certificate, append=number > 0)
    issued.private_key_pem.write_to_path(key)
    return authority, certificate, key
