"""Converts the patches to lwIP to a git repository and back, and rebases them onto another release.

Owns: the form of the patch files, and the rebase. Must not know how the files are compiled.

Program:

    python series.py import TREE [--release FOLDER]              a commit for each patch, on the release
    python series.py export TREE                                 write patches/ anew from the commits
    python series.py rebase TREE --onto FOLDER [--release FOLDER]  import, then move the commits to another release

TREE is a new folder, to be edited with git. The release is the one that the manifest names, or an unpacked one in
FOLDER. A patch is one change: its commit's message opens the file, and ends with the trailers

    Kind: fix, hook or size          the folder that it lies in
    Upstream: none, reported, or fixed in COMMIT
    Test: the program that fails without it
    Patch: NUMBER-NAME.patch         in the commit only; export writes the file of that name

Conflicts of a rebase are reported, and stay in TREE: resolve them there, `git rebase --continue`, then export.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import fetch  # noqa: E402 - a program beside this one, found by the line above

FOLDERS = {"fix": "fixes", "hook": "hooks", "size": "size"}
TRAILERS = ("Kind", "Upstream", "Test")
UPSTREAM = re.compile(r"none|reported|fixed in [0-9a-f]{8,40}")
SERIES_HEAD = "# The patches to lwIP, in the order in which they are applied. Written by series.py.\n"

# The repository depends neither on the user's configuration nor on the clock.
SETTINGS = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_AUTHOR_NAME": "series",
    "GIT_AUTHOR_EMAIL": "series@localhost",
    "GIT_AUTHOR_DATE": "2000-01-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "series",
    "GIT_COMMITTER_EMAIL": "series@localhost",
    "GIT_COMMITTER_DATE": "2000-01-01T00:00:00Z",
    "GIT_EDITOR": "true",
    "LC_ALL": "C",
}


class SeriesError(Exception):
    """The series cannot be imported, exported or rebased; the message has the reason, and what to do."""


@dataclass(frozen=True)
class Patch:
    """One patch file: its name, the text that opens it, and the unified diff."""

    name: str  # NUMBER-NAME.patch
    reason: str
    trailers: dict[str, str]
    diff: str

    @property
    def path(self) -> str:
        """Where it lies below `patches/`."""
        return f"{FOLDERS[self.trailers['Kind']]}/{self.name}"

    @classmethod
    def parse(cls, name: str, text: str) -> Patch:
        """Read a patch file.

        Raises:
            SeriesError: it has no diff, or its trailers are missing or wrong.
        """
        head, mark, rest = text.partition("\n--- ")
        if not mark:
            raise SeriesError(f"{name}: no diff")
        reason, trailers = split_message(head)
        for key in TRAILERS:
            if not trailers.get(key):
                raise SeriesError(f"{name}: the trailer {key}: is missing")
        if trailers["Kind"] not in FOLDERS:
            raise SeriesError(f"{name}: Kind: {trailers['Kind']} is none of {', '.join(FOLDERS)}")
        if not UPSTREAM.fullmatch(trailers["Upstream"]):
            raise SeriesError(f"{name}: Upstream: {trailers['Upstream']} is not none, reported or fixed in COMMIT")
        return cls(name, reason, {key: trailers[key] for key in TRAILERS}, "--- " + rest)

    def message(self) -> str:
        """Return the text before the diff, which is the commit's message, too."""
        return self.reason + "\n\n" + "".join(f"{key}: {value}\n" for key, value in self.trailers.items())

    def text(self) -> str:
        """Return the file's content."""
        return f"{self.message()}\n{self.diff}"


def split_message(text: str) -> tuple[str, dict[str, str]]:
    """Split a message into its text and the trailers at its end."""
    body, _, last = text.strip().rpartition("\n\n")
    pairs = [line.partition(": ") for line in last.splitlines()]
    if not body or not all(mark and re.fullmatch(r"[A-Z][a-z-]+", key) for key, mark, _ in pairs):
        return text.strip(), {}
    return body, {key: value.strip() for key, _, value in pairs}


def read_series(folder: Path) -> list[Patch]:
    """Read the patches that `folder`/patches/series names, in its order."""
    found = []
    for path in fetch.patches(folder):
        patch = Patch.parse(path.name, path.read_text(encoding="utf-8"))
        if patch.path != path.relative_to(folder / "patches").as_posix():
            raise SeriesError(f"{path.name}: by its Kind: it belongs to {patch.path}")
        found.append(patch)
    return found


def git(tree: Path, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
    """Run git in the tree and return what it printed.

    Raises:
        SeriesError: it failed, unless `check` is False.
    """
    run = subprocess.run(
        ["git", "-C", str(tree), *arguments],
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        env={**os.environ, **SETTINGS},
    )
    if check and run.returncode:
        raise SeriesError(f"git {arguments[0]}: {(run.stderr or run.stdout).strip()}")
    return run.stdout


def commit_files(tree: Path, files: fetch.Files, label: str) -> None:
    """Commit exactly these files, and give the commit a tag."""
    for name, data in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(data)
    git(tree, "add", "--all", "--force")
    git(tree, "commit", "--quiet", "--allow-empty", "-m", label)
    git(tree, "tag", label)


def read_tree(folder: Path) -> fetch.Files:
    """Read the C files and headers of an unpacked release."""
    files = fetch.read_folder(folder, lambda name: fetch.within(name, "src"))
    if not files:
        raise SeriesError(f"{folder} is no release of lwIP: it has no src/")
    return files


def import_series(tree: Path, folder: Path = HERE, release: Path | None = None) -> list[Patch]:
    """Make a repository of the release and a commit for each patch, on branch `series`.

    Raises:
        SeriesError: the folder is not empty, or a patch does not apply.
    """
    if tree.exists() and any(tree.iterdir()):
        raise SeriesError(f"{tree} is not empty")
    patches = read_series(folder)
    files = read_tree(release) if release else fetch.obtain(fetch.Manifest.load(folder / "manifest.toml"))
    tree.mkdir(parents=True, exist_ok=True)
    git(tree, "init", "--quiet", "--initial-branch=series")
    commit_files(tree, files, "release")
    for patch in patches:
        try:
            git(tree, "apply", "--index", "-", stdin=patch.diff)
        except SeriesError as error:
            raise SeriesError(f"{patch.path} does not apply: {error}") from None
        git(tree, "commit", "--quiet", "-F", "-", stdin=f"{patch.message()}Patch: {patch.name}\n")
    return patches


def commits(tree: Path, since: str) -> list[str]:
    """Return the commits after a tag, oldest first."""
    return git(tree, "rev-list", "--reverse", f"{since}..HEAD").split()


def patch_of(tree: Path, commit: str, number: int) -> Patch:
    """Make the patch of a commit. One without a name gets one from its first line and the number."""
    reason, trailers = split_message(git(tree, "show", "--no-patch", "--format=%B", commit))
    words = re.sub(r"[^a-z0-9]+", "-", reason.split("\n")[0].lower()).strip("-")[:40].rstrip("-")
    name = trailers.get("Patch") or f"{number:04}-{words}.patch"
    diff = git(tree, "diff", "--no-color", "--no-ext-diff", "--unified=3", f"{commit}~", commit)
    kept = [line for line in diff.splitlines(keepends=True) if not line.startswith(("diff --git ", "index "))]
    head = reason + "\n\n" + "".join(f"{key}: {value}\n" for key, value in trailers.items() if key != "Patch")
    return Patch.parse(name, f"{head}\n{''.join(kept)}")


def export_series(tree: Path, folder: Path = HERE) -> list[Patch]:
    """Write `patches/` anew from the commits on the release. Files of patches without a commit are removed.

    Raises:
        SeriesError: a rebase is under way, a commit changes nothing, or its trailers are missing.
    """
    if (tree / ".git" / "rebase-merge").exists():
        raise SeriesError(f"a rebase is under way in {tree}: git rebase --continue first")
    base = "onto" if git(tree, "tag", "--list", "onto").strip() else "release"
    found: list[Patch] = []
    for commit in commits(tree, base):
        number = max((int(patch.name.split("-")[0]) for patch in found), default=0) + 1
        found.append(patch_of(tree, commit, number))
    written = {patch.path for patch in found}
    if len(written) < len(found):
        raise SeriesError("two commits have the same Patch: trailer")
    root = folder / "patches"
    for path in root.glob("*/*.patch"):
        if path.relative_to(root).as_posix() not in written:
            path.unlink()
    for patch in found:
        (root / patch.path).parent.mkdir(parents=True, exist_ok=True)
        (root / patch.path).write_text(patch.text(), encoding="utf-8")
    (root / "series").write_text(SERIES_HEAD + "".join(f"{patch.path}\n" for patch in found), encoding="utf-8")
    return found


def rebase_series(tree: Path, onto: Path, folder: Path = HERE, release: Path | None = None) -> list[str]:
    """Import the series, and move its commits to the release in `onto`, each by a three-way merge.

    Returns:
        The names of the patches that changed nothing any more, because that release has them.

    Raises:
        SeriesError: a patch conflicts; the message names it and the files. The tree stays as it is.
    """
    files = read_tree(onto)
    patches = import_series(tree, folder, release)
    git(tree, "checkout", "--quiet", "--orphan", "onto-release")
    git(tree, "rm", "-r", "-f", "--quiet", ".")
    commit_files(tree, files, "onto")
    git(tree, "rebase", "--quiet", "--empty=drop", "--onto", "onto", "release", "series", check=False)
    if (tree / ".git" / "rebase-merge").exists():
        _, trailers = split_message(git(tree, "show", "--no-patch", "--format=%B", "REBASE_HEAD"))
        where = ", ".join(git(tree, "diff", "--name-only", "--diff-filter=U").split())
        raise SeriesError(
            f"{trailers['Patch']} conflicts in {where}\n"
            f"resolve these in {tree}, git add them, git rebase --continue; at the end: series.py export {tree}"
        )
    kept = {patch_of(tree, commit, 0).name for commit in commits(tree, "onto")}
    return [patch.name for patch in patches if patch.name not in kept]


def main() -> int:
    parser = argparse.ArgumentParser(description="Keep the patches to lwIP as a series.")
    actions = parser.add_subparsers(dest="action", required=True)
    for action in ("import", "export", "rebase"):
        command = actions.add_parser(action)
        command.add_argument("tree", type=Path)
        if action != "export":
            command.add_argument("--release", type=Path, help="an unpacked release instead of the manifest's")
        if action == "rebase":
            command.add_argument("--onto", type=Path, required=True, help="an unpacked release or a checkout")
    arguments = parser.parse_args()
    try:
        if arguments.action == "import":
            print(f"{len(import_series(arguments.tree, release=arguments.release))} patches imported")
        elif arguments.action == "export":
            print(f"{len(export_series(arguments.tree))} patches exported")
        else:
            dropped = rebase_series(arguments.tree, arguments.onto, release=arguments.release)
            print("rebased" + "".join(f"\nthe release has {name}" for name in dropped))
    except (SeriesError, fetch.FetchError) as error:
        print(f"series: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
