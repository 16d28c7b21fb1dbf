"""The list of upstream's commits after our release: it agrees with the patches, and a clone shows what it lacks."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.kit.lwip_program import load_lwip_program

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")

MANIFEST = """\
version = "1"
[debian]
package = "lwip"
suite = "none"
orig = "none"
[upstream]
tag = "RELEASE"
url = "none"
[files]
"src/core/one.c" = "0"
"src/core/two.c" = "0"
"""
PATCH = """\
The second number is odd.

Kind: fix
Upstream: fixed in {commit}
Test: tests/one.c

--- a/src/core/one.c
+++ b/src/core/one.c
@@ -1 +1 @@
-int one;
+int two;
"""
LIST = """\
[compared]
"src/core/one.c" = "as a whole"
[[commit]]
hash = "{commit}"
files = ["src/core/one.c"]
change = "the second number is even"
patch = "0001-even.patch"
"""
COMMIT = "0123456789" * 4

upstream = load_lwip_program("upstream")


def folder_of(tmp_path: Path, listed: str, commit: str = COMMIT) -> Path:
    folder = tmp_path / "lwip"
    (folder / "patches" / "fixes").mkdir(parents=True)
    (folder / "manifest.toml").write_text(MANIFEST, encoding="utf-8")
    (folder / "upstream.toml").write_text(listed, encoding="utf-8")
    (folder / "patches" / "series").write_text("fixes/0001-even.patch\n", encoding="utf-8")
    (folder / "patches" / "fixes" / "0001-even.patch").write_text(PATCH.format(commit=commit), encoding="utf-8")
    return folder


def test_our_list_agrees_with_our_patches() -> None:
    reviews = upstream.read_reviews()
    assert reviews.since == "STABLE-2_2_1_RELEASE"
    assert {review.hash[:8] for review in reviews.commits} >= {"56b29f8b", "3d896ba0"}


def test_commits_that_are_not_listed_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path / "clone"
    (clone / "src" / "core").mkdir(parents=True)
    git = upstream.series.git
    git(clone, "init", "--quiet", "--initial-branch=main")

    def commit(name: str, text: str, message: str) -> str:
        (clone / name).write_text(text, encoding="utf-8")
        git(clone, "add", "--all")
        git(clone, "commit", "--quiet", "-m", message)
        return str(git(clone, "rev-parse", "HEAD")).strip()

    commit("src/core/one.c", "int zero;\n", "Before the release")
    git(clone, "tag", "RELEASE")
    known = commit("src/core/one.c", "int one;\n", "Taken over")
    commit("README", "one\n", "No file of ours")
    new = commit("src/core/two.c", "int two;\n", "Not reviewed")
    folder = folder_of(tmp_path, LIST.format(commit=known), known)
    assert upstream.unseen(clone, folder=folder) == [f"{new} Not reviewed"]
    assert upstream.unseen(clone, f"{new}~", folder=folder) == []

    monkeypatch.setattr(upstream, "unseen", lambda *_: [f"{new} Not reviewed"])
    monkeypatch.setattr(sys, "argv", ["upstream.py", str(clone)])
    assert upstream.main() == 1
    assert capsys.readouterr().out == f"{new} Not reviewed\n"


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (LIST.replace("src/core/one.c", "src/core/three.c"), "src/core/three.c is not in manifest.toml"),
        (LIST.replace('patch = "0001-even.patch"', ""), "needs one of patch and no_effect"),
        (LIST + 'no_effect = "none"\n', "needs one of patch and no_effect"),
        (LIST.replace("{commit}", "0123"), "0123 is no full hash"),
        (LIST.replace("0001-even", "0002-odd"), "do not agree on commit"),
        (LIST.replace("{commit}", "f" * 40), "do not agree on commit"),
    ],
)
def test_a_wrong_list_is_refused(tmp_path: Path, listed: str, message: str) -> None:
    folder = folder_of(tmp_path, listed.replace("{commit}", COMMIT))
    with pytest.raises(upstream.series.SeriesError, match=message):
        upstream.read_reviews(folder)


def test_a_clone_without_the_release_is_refused(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    clone.mkdir()
    upstream.series.git(clone, "init", "--quiet")
    with pytest.raises(upstream.series.SeriesError, match="RELEASE"):
        upstream.unseen(clone, folder=folder_of(tmp_path, LIST.format(commit=COMMIT)))
