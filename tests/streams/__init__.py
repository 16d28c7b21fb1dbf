"""Tests of `tcpip_wasm.streams`."""
