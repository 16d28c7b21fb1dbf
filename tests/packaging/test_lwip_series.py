"""The series of patches to lwIP: import and export give the same files; another release is reached by a three-way
merge, or the patch that conflicts is named and a tree to work in is left.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kit.lwip_program import LWIP, load_lwip_program

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")

RELEASE = {
    "src/core/one.c": "int one(void) {\n  int a = 1;\n\n  int b = 2;\n\n  int c = 3;\n  return a + b + c;\n}\n",
    "src/core/two.c": "".join(f"int line_{number};\n" for number in range(40)),
}
FIX = """\
The second number is odd.
It takes two lines to say so.

Kind: fix
Upstream: fixed in 0123abcd
Test: tests/one.c

--- a/src/core/one.c
+++ b/src/core/one.c
@@ -1,7 +1,7 @@
 int one(void) {
   int a = 1;
{blank}
-  int b = 2;
+  int b = 5;
{blank}
   int c = 3;
   return a + b + c;
""".replace("{blank}", " ")
HOOK = """\
A hook is asked at line 20.

Kind: hook
Upstream: none
Test: tests/two.c

--- a/src/core/two.c
+++ b/src/core/two.c
@@ -18,6 +18,9 @@ int line_16;
 int line_17;
 int line_18;
 int line_19;
+#ifdef HOOK
+HOOK();
+#endif
 int line_20;
 int line_21;
 int line_22;
"""

series = load_lwip_program("series")


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write(tmp_path / "release", RELEASE)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder such as third_party/lwip with two patches."""
    return write(
        tmp_path / "project",
        {
            "patches/fixes/0001-odd.patch": FIX,
            "patches/hooks/0002-hook.patch": HOOK,
            "patches/series": "# order\nfixes/0001-odd.patch\nhooks/0002-hook.patch\n",
        },
    )


def patch_files(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted((folder / "patches").rglob("*.patch"))}


def test_import_and_export_give_the_same_files(tmp_path: Path, project: Path, release: Path) -> None:
    before = patch_files(project)
    series.import_series(tmp_path / "tree", project, release)
    assert (tmp_path / "tree/src/core/one.c").read_text() == RELEASE["src/core/one.c"].replace("b = 2", "b = 5")
    series.export_series(tmp_path / "tree", project)
    assert patch_files(project) == before
    assert series.fetch.patches(project) == [
        project / "patches/fixes/0001-odd.patch",
        project / "patches/hooks/0002-hook.patch",
    ]


def test_a_commit_becomes_a_patch_and_a_dropped_one_goes(tmp_path: Path, project: Path, release: Path) -> None:
    tree = tmp_path / "tree"
    series.import_series(tree, project, release)
    series.git(tree, "reset", "--hard", "--quiet", "HEAD~")
    write(tree, {"src/core/two.c": RELEASE["src/core/two.c"] + "int more;\n"})
    series.git(tree, "commit", "-aqm", "One More, at the end\n\nKind: size\nUpstream: none\nTest: the size")
    names = [patch.path for patch in series.export_series(tree, project)]
    assert names == ["fixes/0001-odd.patch", "size/0002-one-more-at-the-end.patch"]
    assert set(patch_files(project)) == {"0001-odd.patch", "0002-one-more-at-the-end.patch"}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("Kind: fix", "Kind: repair", "Kind: repair is none of"),
        ("Kind: fix\n", "", "the trailer Kind: is missing"),
        ("Upstream: fixed in 0123abcd", "Upstream: perhaps", "Upstream: perhaps is not"),
        ("Test: tests/one.c\n", "", "the trailer Test: is missing"),
        ("Kind: fix", "Kind: size", "it belongs to size/0001-odd.patch"),
    ],
)
def test_wrong_trailers_are_named(tmp_path: Path, project: Path, release: Path, old: str, new: str, says: str) -> None:
    write(project, {"patches/fixes/0001-odd.patch": FIX.replace(old, new)})
    with pytest.raises(series.SeriesError, match=re.escape(says)):
        series.import_series(tmp_path / "tree", project, release)


def test_rebase_onto_moved_and_changed_lines(tmp_path: Path, project: Path, release: Path) -> None:
    moved = "int new_first;\n" * 12 + RELEASE["src/core/two.c"].replace("int line_30;\n", "long line_30;\n")
    changed = RELEASE["src/core/one.c"].replace("return a + b + c", "return c + b + a")
    onto = write(tmp_path / "next", {"src/core/one.c": changed, "src/core/two.c": moved})
    assert series.rebase_series(tmp_path / "tree", onto, project, release) == []
    assert (tmp_path / "tree/src/core/one.c").read_text() == changed.replace("b = 2", "b = 5")
    assert (tmp_path / "tree/src/core/two.c").read_text() == moved.replace(
        "int line_20;\n", "#ifdef HOOK\nHOOK();\n#endif\nint line_20;\n"
    )
    series.export_series(tmp_path / "tree", project)
    series.import_series(tmp_path / "again", project, onto)
    assert (tmp_path / "again/src/core/two.c").read_text() == (tmp_path / "tree/src/core/two.c").read_text()


def test_rebase_names_conflicts_and_can_be_continued(tmp_path: Path, project: Path, release: Path) -> None:
    tree = tmp_path / "tree"
    changed = RELEASE["src/core/one.c"].replace("int b = 2", "int b = 7")
    onto = write(tmp_path / "next", {**RELEASE, "src/core/one.c": changed})
    with pytest.raises(series.SeriesError, match=r"0001-odd\.patch conflicts in src/core/one\.c"):
        series.rebase_series(tree, onto, project, release)
    assert "<<<<<<<" in (tree / "src/core/one.c").read_text()
    with pytest.raises(series.SeriesError, match="a rebase is under way"):
        series.export_series(tree, project)
    write(tree, {"src/core/one.c": changed.replace("b = 7", "b = 9")})
    series.git(tree, "add", "-A")
    series.git(tree, "rebase", "--continue")
    assert len(series.export_series(tree, project)) == 2
    assert "+  int b = 9;" in patch_files(project)["0001-odd.patch"]


def test_patches_that_the_new_release_has_are_dropped(tmp_path: Path, project: Path, release: Path) -> None:
    onto = write(tmp_path / "next", {**RELEASE, "src/core/one.c": RELEASE["src/core/one.c"].replace("b = 2", "b = 5")})
    assert series.rebase_series(tmp_path / "tree", onto, project, release) == ["0001-odd.patch"]


def test_our_series_on_another_tree(tmp_path: Path) -> None:
    """The tree is 2.2.1 with moved lines; then also with a change of a line that a patch of ours changes."""
    manifest = series.fetch.Manifest.load(LWIP / "manifest.toml")
    pristine = tmp_path / "pristine"
    series.import_series(tmp_path / "first")
    series.git(tmp_path / "first", "checkout", "--quiet", "release")
    shutil.copytree(tmp_path / "first/src", pristine / "src")
    other = tmp_path / "other"
    shutil.copytree(pristine / "src", other / "src")
    for name in manifest.files:
        if name.endswith(".c"):  # all lines move, by as many as the name is long
            text = (other / name).read_text(encoding="utf-8")
            (other / name).write_text("/* moved */\n" * len(name) + text, encoding="utf-8")
    patches = series.read_series(LWIP)
    assert series.rebase_series(tmp_path / "tree", other, release=pristine) == []
    assert len(series.commits(tmp_path / "tree", "onto")) == len(patches)
    subprocess.run(["git", "-C", str(tmp_path / "tree"), "diff", "--quiet", "HEAD"], check=True)

    path = other / "src/core/ipv4/ip4.c"
    line = "    IPH_ID_SET(iphdr, lwip_htons(ip_id));\n"
    text = path.read_text(encoding="utf-8")
    assert line in text
    path.write_text(text.replace(line, line.replace("ip_id", "next_id()")), encoding="utf-8")
    with pytest.raises(series.SeriesError, match=r"0026-identifications\.patch conflicts in src/core/ipv4/ip4\.c"):
        series.rebase_series(tmp_path / "conflict", other, release=pristine)
    assert "<<<<<<<" in (tmp_path / "conflict/src/core/ipv4/ip4.c").read_text(encoding="utf-8")
