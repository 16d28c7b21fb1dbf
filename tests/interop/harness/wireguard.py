"""Other implementations of WireGuard: wireguard-go and boringtun, each built by its own language's tools.

Owns the programs, their devices in a namespace, and the configuration by `wg`. A program is built once, into
`build/peers`, by its language's tool; where there is no tool, one that is installed is used.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kit.polling import poll_blocking

from .go import FOLDER, go_install
from .namespaces import Namespace
from .requirements import missing, require_programs

__all__ = ["PROGRAMS", "Daemon", "wireguard_daemon"]

PROGRAMS = ("wireguard-go", "boringtun-cli")

_BUILD_SECONDS = 900.0
_GO_MODULE = "golang.zx2c4.com/wireguard@v0.0.0-20260522210424-ecfc5a8d5446"
"""Debian's wireguard-go is older than its segmentation offload, and its versions do not say their date."""
_CRATE = ("boringtun-cli", "0.7.1")


def program(name: str) -> Path:
    """Return the path of a program, and build it where it is not there."""
    if name == "wireguard-go":
        found = go_install("wireguard", _GO_MODULE) or shutil.which(name)
        return Path(found or missing(f"{name} is not installed, nor go, which builds it"))
    built = FOLDER / "bin" / name
    if built.exists():
        return built
    cargo = shutil.which("cargo")
    if cargo is None and (installed := shutil.which(name)):
        return Path(installed)
    if cargo is None or subprocess.run([cargo, "--version"], capture_output=True).returncode != 0:
        # A cargo of rustup alone runs only with a toolchain.
        pytest.skip("boringtun-cli is in no distribution, and cargo, which builds it, is not installed")
    command = [cargo, "install", "--quiet", "--root", str(FOLDER), "--version", _CRATE[1], _CRATE[0]]
    FOLDER.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_SECONDS)
    if done.returncode != 0:
        pytest.fail(f"{name} could not be built: {done.stderr[-1000:]}")
    return built


class Daemon:
    """A running program with one device.

    Attributes:
        name: of the device.
        public_key: its own, in base64.
        port: of its socket, in the namespace.
    """

    def __init__(self, namespace: Namespace, name: str, public_key: str, port: int) -> None:
        self.namespace = namespace
        self.name = name
        self.public_key = public_key
        self.port = port

    def set(self, *options: str, secret: str | None = None) -> None:
        """Call ``wg set``; a secret is the content of the file ``/dev/stdin``."""
        subprocess.run(
            self.namespace.command("wg", "set", self.name, *options),
            input=secret,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )

    def show(self, what: str) -> list[str]:
        """Return the fields of ``wg show`` for the one peer: ``endpoints``, ``latest-handshakes``, ``transfer``."""
        return self.namespace.run("wg", "show", self.name, what).stdout.split()[1:]


@contextmanager
def wireguard_daemon(
    which: str, namespace: Namespace, addresses: Mapping[int, str], *, mtu: int = 1420
) -> Iterator[Daemon]:
    """Run a program in a namespace.

    Args:
        which: one of `PROGRAMS`.
        namespace: where its device and its socket are.
        addresses: of the device, by version, with prefix lengths.
        mtu: of the device.
    """
    require_programs("wg")
    name = f"wg{secrets.token_hex(5)}"  # the control socket has this name in a folder that namespaces share
    path = program(which)
    options = ["-f", name] if which == "wireguard-go" else ["--foreground", "--disable-drop-privileges", name]
    process = subprocess.Popen(
        namespace.command(str(path), *options),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"WG_THREADS": "2"},
    )
    control = Path(f"/var/run/wireguard/{name}.sock")
    try:
        poll_blocking(lambda: control.exists() or process.poll() is not None)
        assert process.returncode is None, f"{which} ended with {process.returncode}"
        private = namespace.run("wg", "genkey").stdout
        public = subprocess.run(["wg", "pubkey"], input=private, capture_output=True, text=True, check=True, timeout=60)
        daemon = Daemon(namespace, name, public.stdout.strip(), 51820)
        daemon.set("private-key", "/dev/stdin", "listen-port", "51820", secret=private)
        for address in addresses.values():
            options = ["nodad"] if ":" in address else []
            namespace.run("ip", "address", "add", address, "dev", name, *options)
        namespace.run("ip", "link", "set", name, "mtu", str(mtu), "up")
        yield daemon
    finally:
        process.kill()
        process.wait()
        control.unlink(missing_ok=True)
