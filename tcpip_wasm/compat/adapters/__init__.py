"""Adapters for client libraries, one module each, which no other module of the package imports.

    httpcore_backend   a network backend for httpcore and httpx (extra ``httpcore``)
    aiohttp_connector  a connector for aiohttp's client (extra ``aiohttp``)
    anyio_stream       an anyio byte stream over a connection (extra ``anyio``)
    extras             the error where a library is not installed

Their public modules are `tcpip_wasm.compat.httpcore`, `tcpip_wasm.compat.aiohttp` and `tcpip_wasm.compat.anyio`.
"""
