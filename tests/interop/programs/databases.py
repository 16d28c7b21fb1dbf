"""Debian's PostgreSQL and Redis in a namespace, with temporary files only."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.interop.harness.namespaces import Namespace

USER: Final = "tester"
PASSWORD: Final = "a secret of tests"

BOUND_TO_US: Final = ("setpriv", "--pdeathsig=KILL")
"""Prefix of the command of a server that must end with the tests, even if these are killed."""

_PATIENCE: Final = 60.0
"""Seconds for the end of a server."""

_SETTINGS: Final = {
    "listen_addresses": "*",
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum": "off",
    "max_connections": "20",
    "shared_buffers": "32MB",
    "ssl": "on",
}


@contextmanager
def postgresql(namespace: Namespace, programs: Path, certificate: tuple[Path, Path]) -> Iterator[None]:
    """Run PostgreSQL on all addresses of a namespace, for `USER` with `PASSWORD`, who may do everything.

    Args:
        namespace: where it listens.
        programs: folder of `initdb` and `postgres`.
        certificate: PEM files of its certificate and key.
    """
    owner = pwd.getpwnam("postgres")  # it refuses to run as root
    with tempfile.TemporaryDirectory(prefix="postgresql-") as name:
        folder = Path(name)
        (folder / "password").write_text(PASSWORD)
        for source, target in zip(certificate, ("certificate.pem", "key.pem"), strict=True):
            shutil.copyfile(source, folder / target)
        (folder / "key.pem").chmod(0o600)
        for path in (folder, *folder.iterdir()):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        subprocess.run(
            [
                *(str(programs / "initdb"), "--no-sync", "--no-instructions", "--locale=C.UTF-8"),
                *("--auth=scram-sha-256", f"--username={USER}", f"--pwfile={folder}/password"),
                f"--pgdata={folder}/data",
            ],
            cwd=folder,
            user=owner.pw_uid,
            group=owner.pw_gid,
            extra_groups=[],
            check=True,
            capture_output=True,
            timeout=200,
        )
        (folder / "data" / "pg_hba.conf").write_text("host all all all scram-sha-256\n")
        settings = _SETTINGS | {"ssl_cert_file": f"{folder}/certificate.pem", "ssl_key_file": f"{folder}/key.pem"}
        process = namespace.start(
            *("setpriv", f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"),
            *("--pdeathsig=QUIT", "--"),
            *(str(programs / "postgres"), "-D", f"{folder}/data"),
            *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
            ready="ready to accept connections",
        )
        try:
            yield
        finally:
            # It ends its own processes; killed, it would leave them to find out. Only the second signal does not wait
            # until all of them have answered, and one may be stuck with a client of a test that failed.
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGQUIT)
                process.wait(_PATIENCE)


@contextmanager
def redis(namespace: Namespace, folder: Path) -> Iterator[None]:
    """Run Redis on all addresses of a namespace, in memory only."""
    process = namespace.start(
        *(*BOUND_TO_US, "redis-server", "--dir", str(folder), "--save", "", "--appendonly", "no"),
        *("--bind", "0.0.0.0", "--protected-mode", "no"),
        ready="Ready to accept connections",
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(_PATIENCE)
