"""HTTP (RFC 9110, RFC 9112): applications and folders for the hosts of a network, and a client.

    ranges      ranges and conditions of requests
    files       a folder as an ASGI application
    lifespan    the beginning and the end of an application
    connection  connections, by uvicorn's protocol
    server      `HttpServer`
    client      `http_client`

Only `connection` imports uvicorn, and only `client` httpx, when they are used.
"""

from tcpip_wasm.services.http.client import http_client
from tcpip_wasm.services.http.server import HttpServer

__all__ = ["HttpServer", "http_client"]
