"""Lists the commits of upstream after our release that have not been reviewed.

Owns: upstream.toml's form, and its agreement with the trailers of the patches. Must not know what the patches do.

Program:

    python upstream.py CLONE [BRANCH]    CLONE: a git clone of lwIP; BRANCH: what to compare with (HEAD)

prints the commits after the release that touch a file of manifest.toml and are not in upstream.toml; exits with 1 if
there are any.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import fetch  # noqa: E402 - programs beside this one, found by the line above
import series  # noqa: E402

HASH = re.compile(r"[0-9a-f]{40}|unknown")


@dataclass(frozen=True)
class Review:
    """The entry of one commit in upstream.toml: a patch of ours, or a reason why none is needed."""

    hash: str
    files: tuple[str, ...]
    change: str
    patch: str | None
    no_effect: str | None


@dataclass(frozen=True)
class Reviews:
    """The content of upstream.toml."""

    since: str  # the tag of the release that manifest.toml names
    compared: dict[str, str]  # file: the state of upstream's that it was compared with, and how
    commits: tuple[Review, ...]


def read_reviews(folder: Path = HERE) -> Reviews:
    """Read `folder`/upstream.toml and compare it with the manifest and with the patches.

    Raises:
        series.SeriesError: it names a file not in the manifest, differs from a patch's trailer, or lacks a verdict.
    """
    table = tomllib.loads((folder / "upstream.toml").read_text(encoding="utf-8"))
    manifest = tomllib.loads((folder / "manifest.toml").read_text(encoding="utf-8"))
    found = tuple(
        Review(entry["hash"], tuple(entry["files"]), entry["change"], entry.get("patch"), entry.get("no_effect"))
        for entry in table["commit"]
    )
    for name in {*table["compared"], *(name for review in found for name in review.files)} - set(manifest["files"]):
        raise series.SeriesError(f"upstream.toml: {name} is not in manifest.toml")
    for review in found:
        if not HASH.fullmatch(review.hash):
            raise series.SeriesError(f"upstream.toml: {review.hash} is no full hash, nor unknown")
        if (review.patch is None) == (review.no_effect is None):
            raise series.SeriesError(f"upstream.toml: {review.hash} needs one of patch and no_effect")
    listed = {(review.patch, review.hash) for review in found if review.patch is not None}
    fixed = {
        (patch.name, patch.trailers["Upstream"].removeprefix("fixed in "))
        for patch in series.read_series(folder)
        if patch.trailers["Upstream"].startswith("fixed in ")
    }
    for name, commit in sorted(listed ^ fixed):
        raise series.SeriesError(f"{name} and upstream.toml do not agree on commit {commit}")
    return Reviews(manifest["upstream"]["tag"], table["compared"], found)


def unseen(clone: Path, branch: str = "HEAD", folder: Path = HERE) -> list[str]:
    """Return the commits of the clone that upstream.toml does not have, oldest first, each as hash and first line.

    Raises:
        series.SeriesError: upstream.toml is wrong, or the clone does not have the release's tag.
    """
    reviews = read_reviews(folder)
    files = fetch.Manifest.load(folder / "manifest.toml").files
    log = series.git(clone, "log", "--reverse", "--format=%H %s", f"{reviews.since}..{branch}", "--", *files)
    seen = {review.hash for review in reviews.commits}
    return [line for line in log.splitlines() if line.split(" ")[0] not in seen]


def main() -> int:
    parser = argparse.ArgumentParser(description="List upstream's commits that upstream.toml does not have.")
    parser.add_argument("clone", type=Path)
    parser.add_argument("branch", nargs="?", default="HEAD")
    arguments = parser.parse_args()
    try:
        found = unseen(arguments.clone, arguments.branch)
    except series.SeriesError as error:
        print(f"upstream: {error}", file=sys.stderr)
        return 1
    print("".join(f"{line}\n" for line in found), end="")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
