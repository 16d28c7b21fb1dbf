"""Fixtures of this folder: a namespace with servers, which all tests share; each has a stack of its
own, on asyncio's loop and on uvloop's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

from tests.interop.harness.namespaces import network_namespace
from tests.interop.harness.requirements import require_kernel_peer
from tests.interop.programs.databases import BOUND_TO_US
from tests.interop.programs.places import Place
from tests.kit.stacks import set_loop_kind
from tests.kit.tls import certificate_files
from tests.programs.ports import OPENSSH

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True, params=["asyncio", "uvloop"])
def loop_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of the stack's loop."""
    set_loop_kind(request.param, monkeypatch)
    return str(request.param)


@pytest.fixture(scope="package")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A namespace, and a folder with certificates and a key for ssh."""
    require_kernel_peer()
    folder = tmp_path_factory.mktemp("servers")
    certificate_files(str(folder))
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(folder / "ssh_key")
    (folder / "ssh_key").chmod(0o600)
    key.write_public_key(folder / "ssh_key.pub")
    with network_namespace() as namespace:
        yield Place(namespace, folder)


@pytest.fixture(scope="package")
def servers(place: Place) -> Place:
    """A place where all servers of `tests.programs` run."""
    for name in ("ftp", "sftp"):
        (place.folder / name).mkdir()
    place.namespace.start(
        *(*BOUND_TO_US, "env", f"--chdir={ROOT}", sys.executable, "-m", "tests.programs", "0.0.0.0", str(place.folder)),
        ready="servers are ready",
    )
    return place


@pytest.fixture(scope="package")
def sshd(place: Place) -> Place:
    """A place where Debian's sshd runs, for root and a key."""
    require_kernel_peer("/usr/sbin/sshd")
    os.makedirs("/run/sshd", exist_ok=True)  # its service would make it
    (place.folder / "openssh").mkdir()
    (place.folder / "sshd_config").write_text(
        f"Port {OPENSSH}\nListenAddress 0.0.0.0\nHostKey {place.folder}/ssh_key\nPidFile none\n"
        f"AuthorizedKeysFile {place.folder}/ssh_key.pub\nStrictModes no\nPermitRootLogin prohibit-password\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nSubsystem sftp internal-sftp\n"
    )
    place.namespace.start(
        *(*BOUND_TO_US, "/usr/sbin/sshd", "-D", "-e", "-f", str(place.folder / "sshd_config")),
        ready="Server listening on",
    )
    return place
