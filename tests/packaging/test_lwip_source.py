"""The fetch of lwIP: only the manifest's bytes are accepted, patches apply or are named, nothing half-done is
left.
"""

from __future__ import annotations

import hashlib
import io
import random
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.lwip_program import LWIP, load_lwip_program

ONE = b"first\nsecond\nthird\n"
TWO = b"alpha\nbeta\n"
FILES = {"src/one.c": ONE, "src/include/two.h": TWO}
PLAIN_PATCH = "--- lwip/src/one.c\n+++ lwip/src/one.c\n@@ -1,3 +1,3 @@\n first\n-second\n+2nd\n third\n"
GIT_PATCH = "diff --git a/src/one.c b/src/one.c\nindex 1111111..2222222 100644\n" + PLAIN_PATCH.replace(
    "--- lwip/", "--- a/"
).replace("+++ lwip/", "+++ b/")

fetch = load_lwip_program("fetch")


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """An unpacked release of two files."""
    folder = tmp_path / "release"
    for name, data in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def project(tmp_path: Path, release: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder such as third_party/lwip, whose manifest names the files of `release`."""
    folder = tmp_path / "lwip"
    (folder / "patches").mkdir(parents=True)
    head = (LWIP / "manifest.toml").read_text().partition("[files]\n")[0]
    table = [f'"{name}" = "{hashlib.sha256(data).hexdigest()}"\n' for name, data in FILES.items()]
    (folder / "manifest.toml").write_text(head + "[files]\n" + "".join(table))
    monkeypatch.setenv("LWIP_SOURCE_DIR", str(release))
    return folder


def add_patch(project: Path, name: str, text: str) -> None:
    """Append a patch to the series."""
    (project / "patches" / name).write_text(text)
    with (project / "patches" / "series").open("a") as series:
        series.write(f"{name}\n")


def leftovers(project: Path) -> set[str]:
    return {path.name for path in project.iterdir()} - {"manifest.toml", "patches"}


def test_manifest_files_arrive(project: Path, release: Path) -> None:
    (release / "src" / "other.c").write_text("not in the manifest\n")
    output = fetch.fetch(folder=project)
    files = {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*.[ch]")}
    assert files == FILES
    assert leftovers(project) == {"build"}


def test_changed_file_is_named(project: Path, release: Path) -> None:
    (release / "src/one.c").write_bytes(ONE + b"\n")
    with pytest.raises(fetch.FetchError, match=r"different: src/one\.c \(SHA-256 [0-9a-f]{64}") as raised:
        fetch.fetch(folder=project)
    assert "two.h" not in str(raised.value)
    assert leftovers(project) == set()


def test_missing_file_is_named(project: Path, release: Path) -> None:
    (release / "src/include/two.h").unlink()
    with pytest.raises(fetch.FetchError, match=r"missing: src/include/two\.h"):
        fetch.fetch(folder=project)
    assert leftovers(project) == set()


def test_real_manifest_catches_a_tampered_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is in build/ is the release as far as our patches do not touch it: enough to see one changed byte.
    patched = "".join(path.read_text() for path in LWIP.glob("patches/*/*.patch"))
    copy = tmp_path / "copy"
    shutil.copytree(LWIP / "build", copy)
    victim = next(name for name in fetch.Manifest.load(LWIP / "manifest.toml").files if name not in patched)
    monkeypatch.setenv("LWIP_SOURCE_DIR", str(copy))
    (copy / victim).write_bytes((copy / victim).read_bytes() + b" ")
    with pytest.raises(fetch.FetchError, match=rf"different: {victim} "):
        fetch.fetch(tmp_path / "output")
    (copy / victim).unlink()
    with pytest.raises(fetch.FetchError, match=rf"missing: {victim}"):
        fetch.fetch(tmp_path / "output")
    assert not (tmp_path / "output").exists()


def test_failure_keeps_the_former_tree(project: Path, release: Path) -> None:
    output = fetch.fetch(folder=project)
    add_patch(project, "01-wrong.patch", PLAIN_PATCH.replace("-second", "-zweite"))
    with pytest.raises(fetch.FetchError, match=r"does not apply: 01-wrong\.patch"):
        fetch.fetch(folder=project)
    assert (output / "src/one.c").read_bytes() == ONE
    assert leftovers(project) == {"build"}


@pytest.mark.parametrize(
    "patch",
    [PLAIN_PATCH, GIT_PATCH, "Why it is needed.\n\n" + PLAIN_PATCH],
    ids=["plain", "git", "with prose"],
)
def test_patch_applies(project: Path, patch: str) -> None:
    add_patch(project, "01-number.patch", patch)
    output = fetch.fetch(folder=project)
    assert (output / "src/one.c").read_bytes() == b"first\n2nd\nthird\n"


def test_patches_apply_in_the_order_of_the_series(project: Path) -> None:
    add_patch(project, "02-first.patch", PLAIN_PATCH)
    add_patch(project, "01-later.patch", PLAIN_PATCH.replace("-second", "-2nd").replace("+2nd", "+II"))
    assert (fetch.fetch(folder=project) / "src/one.c").read_bytes() == b"first\nII\nthird\n"


@pytest.mark.parametrize(
    "patch",
    [PLAIN_PATCH.replace("one.c", "three.c"), "no diff at all\n"],
    ids=["no such file", "no diff"],
)
def test_useless_patch_is_named(project: Path, patch: str) -> None:
    add_patch(project, "01-useless.patch", patch)
    with pytest.raises(fetch.FetchError, match=r"does not apply: 01-useless\.patch"):
        fetch.fetch(folder=project)
    assert leftovers(project) == set()


def test_the_series_names_all_patches_and_no_others(project: Path) -> None:
    (project / "patches" / "02-left-out.patch").write_text(PLAIN_PATCH)
    with pytest.raises(fetch.FetchError, match=r"does not name 02-left-out\.patch"):
        fetch.fetch(folder=project)
    add_patch(project, "02-left-out.patch", PLAIN_PATCH)
    (project / "patches" / "02-left-out.patch").unlink()
    with pytest.raises(fetch.FetchError, match=r"names missing files: 02-left-out\.patch"):
        fetch.fetch(folder=project)


def test_folders_of_the_unit_tests_are_verified_where_they_are_wanted(project: Path, release: Path) -> None:
    manifest = project / "manifest.toml"
    head, _, table = manifest.read_text().partition("[files]\n")
    digest = fetch.digest_of(FILES, "src")
    manifest.write_text(head.partition("[unit_tests]")[0] + f'[unit_tests]\nsrc = "{digest}"\n[files]\n' + table)
    assert fetch.obtain(fetch.Manifest.load(manifest), folders=True) == FILES
    (release / "src" / "more.h").write_text("int more;\n")
    assert fetch.obtain(fetch.Manifest.load(manifest)) == FILES
    with pytest.raises(fetch.FetchError, match="different: src/"):
        fetch.obtain(fetch.Manifest.load(manifest), folders=True)


def test_second_fetch_does_nothing_until_a_patch_is_added(project: Path, release: Path) -> None:
    output = fetch.fetch(folder=project)
    shutil.rmtree(release)
    assert fetch.fetch(folder=project) == output
    add_patch(project, "01-number.patch", PLAIN_PATCH)
    with pytest.raises(fetch.FetchError, match="missing: "):
        fetch.fetch(folder=project)


def tar_archive(top: str, files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def zip_archive(top: str, files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as pack:
        for name, data in files.items():
            pack.writestr(f"{top}/{name}", data)
    return buffer.getvalue()


@pytest.mark.parametrize("archive", [tar_archive, zip_archive])
def test_archive_is_read_below_its_top_folder(archive: Callable[[str, dict[str, bytes]], bytes]) -> None:
    data = archive("lwip-2.2.1", {"src/one.c": ONE.replace(b"\n", b"\r\n"), "doc/one.txt": b"text"})
    assert fetch.read_archive(data, {"src/one.c", "src/absent.c"}.__contains__) == {"src/one.c": ONE}


BROKEN_ARCHIVES = {
    "empty": b"",
    "another format": b"<html>not found</html>",
    "tar cut short": tar_archive("t", {"a": random.Random(1).randbytes(4096)})[:2000],
    "zip damaged": zip_archive("t", {"a": b"x" * 4096}).replace(b"xxxx", b"xxxy", 1),
}


@pytest.mark.parametrize("data", BROKEN_ARCHIVES.values(), ids=BROKEN_ARCHIVES.keys())
def test_broken_archive_is_a_fetch_error(data: bytes) -> None:
    with pytest.raises(fetch.FetchError, match="archive cannot be read"):
        fetch.read_archive(data, "a".__eq__)


def test_mirrors_of_both_source_list_formats(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://commented.example/debian trixie main\n"
        "deb [arch=amd64 signed-by=/keys/one.gpg] http://one.example/debian bookworm main contrib  # ours\n"
        "deb http://one.example/debian-security bookworm-security main\n"
        "deb-src http://source.example/debian bookworm main\n"
        "deb http://tools.example/apt stable extra\n"
    )
    (tmp_path / "sources.list.d" / "debian.sources").write_text(
        "Types: deb deb-src\n"
        "# a remark\n"
        "URIs: http://two.example/debian\n  http://three.example/debian\n"
        "Suites: trixie trixie-updates\nComponents: main\nSigned-By: /keys/two.gpg\n"
        "\n"
        "Types: deb\nURIs: http://off.example/debian\nSuites: trixie\nComponents: main\nEnabled: no\n"
        "\n"
        "Types: deb\nURIs: http://block.example/debian\nSuites: trixie\nComponents: main\n"
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abcd\n"
    )
    (tmp_path / "sources.list.d" / "old.list.disabled").write_text("deb http://disabled.example/debian trixie main\n")
    assert fetch.apt_entries(tmp_path) == [
        fetch.AptEntry("http://one.example/debian", "/keys/one.gpg"),
        fetch.AptEntry("http://two.example/debian", "/keys/two.gpg"),
        fetch.AptEntry("http://three.example/debian", "/keys/two.gpg"),
        fetch.AptEntry("http://block.example/debian", None),
    ]


def test_licence_notice_opens_with_upstreams() -> None:
    notice = (LWIP / "COPYING").read_text()
    assert notice.startswith("Copyright (c) 2001, 2002 Swedish Institute of Computer Science.\nAll rights reserved.\n")
