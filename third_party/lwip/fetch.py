"""Fetches lwIP, checks every byte against the manifest, and applies our patches.

Owns: the sources of lwIP, and the verification of their files. Every file is compared with the manifest,
so that no source needs to be trusted. Must not know how the files are compiled.

Program: ``python fetch.py [--output FOLDER]``. Module: ``fetch(output)``. Standard library only, except that
applying patches takes patch-ng, which is a build requirement.

The sources, in this order:

1. the folder that the environment variable LWIP_SOURCE_DIR names; nothing else is tried then,
2. Debian's source package, with apt's ordinary client in private directories (no root, no change to the
   system),
3. the archive of upstream's release.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import io
import logging
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

HERE = Path(__file__).resolve().parent
SOURCE_FOLDER_VARIABLE = "LWIP_SOURCE_DIR"
STAMP = "stamp"
DOWNLOAD_TIMEOUT_S = 60
APT_TIMEOUT_S = 300
ARCHIVE_LIMIT = 64 << 20  # bytes; the release is about 2 MB, so more than this is not the release

Files = dict[str, bytes]
Wanted = Callable[[str], bool]  # by its path below the release's top folder


class FetchError(Exception):
    """lwIP could not be obtained, or its files differ from the manifest."""


@dataclass(frozen=True)
class Manifest:
    """The content of `manifest.toml`."""

    version: str
    debian_package: str
    debian_suite: str
    debian_orig: str
    upstream_url: str
    files: dict[str, str]  # path below the release's top folder: SHA-256 in hexadecimal
    folders: dict[str, str]  # folder of C files that lwIP's unit tests need: `digest_of` them

    @classmethod
    def load(cls, path: Path) -> Manifest:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        debian = table["debian"]
        return cls(
            version=table["version"],
            debian_package=debian["package"],
            debian_suite=debian["suite"],
            debian_orig=debian["orig"],
            upstream_url=table["upstream"]["url"],
            files=dict(table["files"]),
            folders=dict(table.get("unit_tests", {})),
        )

    def wants(self, name: str, folders: bool) -> bool:
        """Say whether a file of the release is one of ours, or, with `folders`, one that the unit tests need."""
        return name in self.files or (folders and any(within(name, folder) for folder in self.folders))

    def verify(self, files: Files, folders: bool = False) -> None:
        """Raise FetchError naming each file, and each folder where these count, that is missing or different."""
        faults = []
        for name, expected in self.files.items():
            if name not in files:
                faults.append(f"missing: {name}")
            elif (actual := hashlib.sha256(files[name]).hexdigest()) != expected:
                faults.append(f"different: {name} (SHA-256 {actual}, the manifest says {expected})")
        for folder, expected in self.folders.items() if folders else ():
            if (actual := digest_of(files, folder)) != expected:
                faults.append(f"different: {folder}/ (digest {actual}, the manifest says {expected})")
        if faults:
            raise FetchError(f"the files differ from the manifest of lwIP {self.version}\n  " + "\n  ".join(faults))


def within(name: str, folder: str) -> bool:
    """Return whether a file is C source in a folder or below."""
    return name.startswith(f"{folder}/") and name.endswith((".c", ".h"))


def digest_of(files: Files, folder: str) -> str:
    """Return one SHA-256 for the names and contents of a folder's C files."""
    digest = hashlib.sha256()
    for name in sorted(name for name in files if within(name, folder)):
        digest.update(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n".encode())
    return digest.hexdigest()


def normalise(data: bytes) -> bytes:
    """Release archives and checkouts on Windows may carry CRLF line ends; lwIP's repository has none."""
    return data.replace(b"\r\n", b"\n")


def read_folder(folder: Path, wanted: Wanted) -> Files:
    """Read the wanted files of an unpacked release."""
    paths = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*.[ch]"))}
    return {name: normalise(path.read_bytes()) for name, path in paths.items() if wanted(name) and path.is_file()}


def read_archive(data: bytes, wanted: Wanted) -> Files:
    """Read the wanted members of a zip or tar archive, whose one top folder is not part of their names.

    Nothing is unpacked to disk, so that paths and links of a hostile archive have no effect.
    """
    try:
        return {name: normalise(content()) for name, content in _members(data) if wanted(name)}
    except (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise FetchError(f"the archive cannot be read: {error}") from error


def _members(data: bytes) -> Iterator[tuple[str, Callable[[], bytes]]]:
    def below_top(path: str) -> str:
        return str(PurePosixPath(*PurePosixPath(path).parts[1:]))

    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as pack:
            for name in pack.namelist():
                yield below_top(name), functools.partial(pack.read, name)
        return
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            if member.isreg():
                handle = tar.extractfile(member)
                assert handle is not None  # a regular file always has one
                yield below_top(member.name), handle.read


# Debian -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AptEntry:
    """A binary `main` entry of the machine's source list: a mirror, and the keyring that vouches for it."""

    uri: str
    signed_by: str | None


def apt_entries(etc: Path = Path("/etc/apt")) -> list[AptEntry]:
    """The machine's own Debian mirrors, from both formats of source list, without repetition."""
    found: dict[AptEntry, None] = {}
    for path in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]:
        if not path.is_file() or path.suffix not in (".list", ".sources"):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        for entry in _deb822_entries(text) if path.suffix == ".sources" else _one_line_entries(text):
            found[entry] = None
    return list(found)


def _wanted(uri: str, suite: str, components: list[str]) -> bool:
    # A security archive holds no complete release.
    is_security = "security" in suite or uri.rstrip("/").endswith("-security")
    return "main" in components and not is_security and uri.split(":")[0] in ("http", "https", "file", "mirror+file")


def _one_line_entries(text: str) -> Iterator[AptEntry]:
    for line in text.splitlines():
        kind, _, rest = line.partition("#")[0].strip().partition(" ")
        if kind != "deb":
            continue
        options, rest = "", rest.strip()
        if rest.startswith("["):
            options, _, rest = rest[1:].partition("]")
        words = rest.split()
        if len(words) >= 3 and _wanted(words[0], words[1], words[2:]):
            pairs = dict(option.partition("=")[::2] for option in options.split())
            yield AptEntry(words[0], pairs.get("signed-by"))


def _deb822_entries(text: str) -> Iterator[AptEntry]:
    for paragraph in text.replace("\r\n", "\n").split("\n\n"):
        fields: dict[str, str] = {}
        key = ""
        for line in paragraph.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t"):
                fields[key] = fields.get(key, "") + "\n" + line
            else:
                key, _, value = line.partition(":")
                key = key.strip().lower()
                fields[key] = value.strip()
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in (
            "no",
            "false",
        ):
            continue
        # A key block in the field itself does not fit the one-line format; apt's default keys are used.
        signed_by = fields.get("signed-by", "").strip()
        keyring = signed_by if signed_by and "\n" not in signed_by else None
        suites = fields.get("suites", "").split()
        for uri in fields.get("uris", "").split():
            if suites and _wanted(uri, suites[0], fields.get("components", "").split()):
                yield AptEntry(uri, keyring)


def from_debian(manifest: Manifest, wanted: Wanted) -> Files:
    """The source package's upstream tarball, through apt's ordinary client in private directories."""
    apt = shutil.which("apt-get")
    if apt is None:
        raise FetchError("apt-get is not installed")
    entries = apt_entries()
    if not entries:
        raise FetchError("the machine's source list has no entry of component main")
    reasons = []
    for entry in entries:
        with tempfile.TemporaryDirectory(prefix="lwip-apt-") as scratch:
            try:
                return read_archive(_apt_source(apt, entry, manifest, Path(scratch)), wanted)
            except (FetchError, OSError, subprocess.SubprocessError) as error:
                reasons.append(f"{entry.uri}: {error}")
    raise FetchError("; ".join(reasons))


def _apt_source(apt: str, entry: AptEntry, manifest: Manifest, scratch: Path) -> bytes:
    for folder in ("state/lists/partial", "cache/archives/partial", "download"):
        (scratch / folder).mkdir(parents=True)
    options = f"[signed-by={entry.signed_by}] " if entry.signed_by else ""
    source_list = scratch / "sources.list"
    source_list.write_text(f"deb-src {options}{entry.uri} {manifest.debian_suite} main\n", encoding="utf-8")
    settings = {
        "Dir::Etc::sourcelist": source_list,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State": scratch / "state",
        "Dir::State::lists": scratch / "state/lists",
        "Dir::Cache": scratch / "cache",
        # apt changes to a user of its own without write access to this folder, and may lack the permission to change.
        "APT::Sandbox::User": _user_name(),
        # By default apt reports success when an index could not be fetched.
        "APT::Update::Error-Mode": "any",
        "Acquire::Retries": "2",
        "Acquire::Languages": "none",
    }
    command = [apt, "-q"]
    for key, value in settings.items():
        command += ["-o", f"{key}={value}"]
    for arguments in (["update"], ["source", "--download-only", manifest.debian_package]):
        run = subprocess.run(
            [*command, *arguments],
            cwd=scratch / "download",
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=APT_TIMEOUT_S,
        )
        if run.returncode:
            problems = [line for line in run.stderr.splitlines() if line.startswith(("E:", "W:"))]
            raise FetchError(f"apt-get {arguments[0]} failed: {' '.join(problems) or run.stderr.strip()}")
    tarball = scratch / "download" / manifest.debian_orig
    if not tarball.is_file():
        present = ", ".join(sorted(path.name for path in tarball.parent.iterdir()))
        raise FetchError(f"the package holds {present}, not {manifest.debian_orig}")
    return tarball.read_bytes()


def _user_name() -> str:
    run = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True)
    return run.stdout.strip()


# Upstream ---------------------------------------------------------------------------------------------------


def from_upstream(manifest: Manifest, wanted: Wanted) -> Files:
    """The archive of upstream's release, over https."""
    with urllib.request.urlopen(manifest.upstream_url, timeout=DOWNLOAD_TIMEOUT_S) as response:
        data: bytes = response.read(ARCHIVE_LIMIT)
    return read_archive(data, wanted)


def obtain(manifest: Manifest, folders: bool = False) -> Files:
    """The manifest's files, verified, from the first source that has them.

    Args:
        manifest: what is wanted.
        folders: whether the folders that lwIP's unit tests need are wanted too.

    Raises:
        FetchError: no source has them; the message has the reason of each.
    """
    wanted = functools.partial(manifest.wants, folders=folders)
    if folder := os.environ.get(SOURCE_FOLDER_VARIABLE):
        files = read_folder(Path(folder), wanted)
        try:
            manifest.verify(files, folders)
        except FetchError as error:
            raise FetchError(f"{SOURCE_FOLDER_VARIABLE}={folder}: {error}") from None
        return files
    reasons = []
    for label, source in (("Debian", from_debian), ("upstream", from_upstream)):
        try:
            files = source(manifest, wanted)
            manifest.verify(files, folders)
            return files
        except (FetchError, OSError) as error:
            reasons.append(f"{label}: {error}")
    raise FetchError(
        "\n".join(reasons)
        + f"\nset {SOURCE_FOLDER_VARIABLE} to the folder of an unpacked release of lwIP {manifest.version}"
    )


# Patches and output -----------------------------------------------------------------------------------------


def apply_patch(patch: Path, root: Path) -> None:
    """Apply one unified diff with one leading folder (-p1) to the files below `root`.

    Raises:
        FetchError: it does not apply, names the patch; or patch-ng is not installed.
    """
    try:
        import patch_ng
    except ImportError:
        raise FetchError("lwIP's patches are applied with patch-ng: pip install patch-ng") from None
    # Its warnings say which hunk failed; they belong under the patch's name, not before it.
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logger = logging.getLogger("patch_ng")
    logger.addHandler(handler)
    logger.propagate, propagate = False, logger.propagate
    try:
        parsed = patch_ng.fromfile(str(patch))
        # For git's format patch-ng removes the leading folder while it parses.
        strip = 0 if parsed and parsed.type in (patch_ng.GIT, patch_ng.HG) else 1
        applied = bool(parsed) and parsed.apply(strip=strip, root=str(root))
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
    if not applied:
        raise FetchError(f"patch does not apply: {patch.name}\n{log.getvalue().rstrip()}")


def patches(folder: Path) -> list[Path]:
    """Return the patches that `patches/series` names, one a line, in its order.

    Raises:
        FetchError: a named file is missing, or a file is not named.
    """
    root = folder / "patches"
    series = root / "series"
    lines = series.read_text(encoding="utf-8").splitlines() if series.is_file() else []
    named = [root / line for line in lines if line and not line.startswith("#")]
    if missing := [path.name for path in named if not path.is_file()]:
        raise FetchError(f"patches/series names missing files: {', '.join(missing)}")
    if unnamed := sorted(path.name for path in set(root.rglob("*.patch")) - set(named)):
        raise FetchError(f"patches/series does not name {', '.join(unnamed)}")
    return named


def fingerprint(folder: Path) -> str:
    """Return a digest of all that determines the output: the manifest and the patches in `folder`, in their order."""
    digest = hashlib.sha256()
    for path in [folder / "manifest.toml", *patches(folder)]:
        digest.update(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n".encode())
    return digest.hexdigest()


def fetch(output: Path | None = None, folder: Path = HERE) -> Path:
    """Put the verified, patched files into `output` (default: `build/` beside this file), return that folder.

    Nothing is done if the folder exists and neither manifest nor patches have changed since. The folder is
    replaced as a whole.

    Raises:
        FetchError: the files cannot be obtained, differ from the manifest, or a patch does not apply.
    """
    output = folder / "build" if output is None else output
    stamp = fingerprint(folder)
    stamp_file = output / STAMP
    if stamp_file.is_file() and stamp_file.read_text(encoding="ascii").strip() == stamp:
        return output
    manifest = Manifest.load(folder / "manifest.toml")
    files = obtain(manifest)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=output.name + ".", dir=output.parent) as scratch:
        fresh = Path(scratch) / "fresh"
        for name, data in files.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        for patch in patches(folder):
            apply_patch(patch, fresh)
        (fresh / STAMP).write_text(stamp + "\n", encoding="ascii")
        if output.exists():
            output.rename(Path(scratch) / "old")
        fresh.rename(output)
    return output


def main() -> int:
    parser = argparse.ArgumentParser(description="Fetch lwIP, check it against the manifest and apply the patches.")
    parser.add_argument("--output", type=Path, help="folder to write (default: build/ beside this program)")
    arguments = parser.parse_args()
    try:
        output = fetch(arguments.output)
    except FetchError as error:
        print(f"lwIP: {error}", file=sys.stderr)
        return 1
    # Make compares times: the stamp must be younger than the manifest even when its content needed no change.
    (output / STAMP).touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
