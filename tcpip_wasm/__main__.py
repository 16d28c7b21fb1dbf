"""``python -m tcpip_wasm``: the command ``tcpip-wasm``, see `cli`."""

from tcpip_wasm.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
