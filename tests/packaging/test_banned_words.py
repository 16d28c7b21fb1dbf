"""The check for banned words: what it finds in each kind of file, and what it leaves alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.packaging import banned_words

RULES = banned_words.load_rules()
BAD = [word for rule in RULES for word in rule.words]


def found(path: str, text: str) -> list[tuple[int, str]]:
    return [(finding.line, finding.word) for finding in banned_words.check_text(path, text, RULES)]


@pytest.mark.parametrize("word", BAD)
def test_each_banned_word_is_found_in_a_comment(word: str) -> None:
    # A longer entry may contain a shorter one.
    assert word in [name for _, name in found("a.py", f"# Here {word} stands.\n")]


@pytest.mark.parametrize(
    ("path", "text", "line"),
    [
        ("a.py", '"""One.\n\nTwo: nobody.\n"""\n', 3),
        ("a.py", "x = 1  # nobody\n", 1),
        ("a.py", 'x = "for nobody else"\n', 1),
        ("a.py", 'x = f"{a} is {b:{c}} for nobody"\n', 1),
        ("a.py", 'x = f"{a[f"b"]} is for nobody"\n' if sys.version_info >= (3, 12) else "# nobody", 1),
        ("a.py", 'x = r"""a\\b\nis nobody here"""\n', 2),
        ("a.py", 'raise ValueError(\n    "one line\\n"\n    "nobody has it"\n)\n', 3),
        ("a.py", "def test_a_peer_that_nobody_serves() -> None: ...\n", 1),
        ("a.py", "class A:\n    async def test_nobody(self) -> None: ...\n", 2),
        ("a.c", "int a; /* one\n   * nobody */ int b;\n", 2),
        ("a.c", "int a; // nobody\n", 1),
        ("a.h", 'check("for nobody", 1);\n', 1),
        ("a.c", "static void nobody_listens(void) {\n}\nint main(void) {\n  RUN(nobody_listens);\n}\n", 1),
        ("a.ts", "const a = `for nobody ${b}`;\n", 1),
        ("a.md", "# One\n\nText for nobody.\n", 3),
        ("a.md", "```python\nx = 1  # nobody\n```\n", 2),
        ("a.md", "```\n$ make   # nobody\n```\n", 2),
        ("a.ts", "const a = `one\nfor nobody`;\n", 2),
        ("a.toml", 'a = 1 # nobody\nb = "c"\n', 1),
        ("a.toml", 'a = "a\'b"\nb = """\nfor nobody\n"""\n', 3),
        ("Makefile", "a:\n\techo it\\'s  # nobody\n", 2),
        ("a.patch", "For nobody.\n\nKind: fix\n\n--- a/b.c\n+++ b/b.c\n@@ -1 +1 @@\n", 1),
        ("a.patch", "One.\n\nKind: fix\n\n--- a/b.c\n+++ b/b.c\n@@ -1,2 +1,3 @@\n /* one\n+ nobody\n  two */\n", 9),
        ("a.patch", "One.\n\nKind: fix\n\n--- a/b.c\n+++ b/b.c\n@@ -1,2 +1,3 @@\n  one\n+ nobody\n  two */\n", 9),
        ("test_nobody.py", "", 0),
        ("a/0001-nobody-waits.patch", "One.\n\nKind: fix\n\n--- a/b.c\n+++ b/b.c\n@@ -1 +1 @@\n", 0),
    ],
)
def test_prose_is_checked_at_its_line(path: str, text: str, line: int) -> None:
    assert [(at, word.lower()) for at, word in found(path, text)] == [(line, "nobody")]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a.py", "nobody = piece + self.turns\n"),
        ("a.py", 'user = "nobody"\nwrite(b"nobody is here")\n'),
        ("a.py", 'x = f"{nobody} is {turns:{piece}} here"\n'),
        ("a.py", '"""Use `nobody` and ``the turn``, :attr:`turns`, see `turns\n= 1`."""\n'),
        ("a.py", '"""One.\n\n    Args:\n        turns: how many\n        piece, turn: what\n    """\n'),
        ("a.py", "# call turn(x), set turns=1, --turns, self.turn, turn_of, Turn[int]\n"),
        ("a.py", "def nobody() -> None: ...\n"),
        ("a.c", "int nobody(int turn) { return heard->sum; }\n"),
        ("a.c", '#include "nobody.h"\n'),
        ("a.md", "See `nobody` and [text](pages/nobody.md).\n"),
        ("a.md", "```\nnobody 1\n```\n"),
        ("a.md", "```python\nx = nobody(piece)\n```\n"),
        ("a.toml", 'nobody = "piece"\n'),
        (
            "a.patch",
            "One.\n\nKind: fix\n\n--- a/b.c\n+++ b/b.c\n@@ -1,2 +1,2 @@\n-/* nobody */\n /* nobody */\n+int nobody;\n",
        ),
        ("nobody.py", ""),
    ],
)
def test_identifiers_and_quotations_are_exempt(path: str, text: str) -> None:
    assert found(path, text) == []


@pytest.mark.parametrize(
    "text",
    [
        "each of them in turn",
        "turned off; turns it off; turns Nagle's algorithm off",
        "turns a name into an address",
        "the sum of numbers",
        "two decimal places",
        "a foreign key",
        "ARP who has 10.0.0.1? tell 10.0.0.2",
        "this needs a pbuf in one piece!",
        "after a grace period, by chance, with patience",
    ],
)
def test_other_senses_are_permitted(text: str) -> None:
    assert found("a.md", text + "\n") == []


def test_a_phrase_is_found_across_lines_and_strings_but_not_across_code() -> None:
    assert found("a.py", "# what it gave\n# back at once\n") == [(1, "gave back")]
    assert found("a.py", 'x = ("what it gave "\n     "back at once")\n') == [(1, "gave back")]
    assert found("a.py", "x = 1  # it gave\ny = 2  # back\n") == []


def test_text_that_is_not_python_has_its_comments_checked() -> None:
    assert found("a.py", "def (:\n    # nobody\n") == [(2, "nobody")]


def test_rules_of_unknown_form_are_refused(tmp_path: Path) -> None:
    data = tmp_path / "rules.toml"
    data.write_text('[[rule]]\nwords = ["a"]\ninstead = "b"\nallowed = []\n')
    with pytest.raises(ValueError, match="unknown fields"):
        banned_words.load_rules(data)
    data.write_text('[[rule]]\nwords = ["a"]\ninstead = "b"\npermitted = [{ pattern = "c" }]\n')
    with pytest.raises(ValueError, match="a pattern and a reason"):
        banned_words.load_rules(data)


def test_program_names_path_line_word_and_suggestion(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / "one.md").write_text("One.\n\nFor nobody.\n")
    (tmp_path / "two.md").write_text("Two.\n")
    (tmp_path / "picture.png").write_bytes(b"\xff\x00")

    def run(*paths: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, banned_words.__file__, "--root", str(tmp_path), *paths]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    every = run()
    assert every.returncode == 1
    assert every.stdout.startswith("one.md:3: nobody: use the actor's name")
    assert every.stdout.count("\n") == 1
    assert run("two.md").returncode == 0
    missing = run("three.md")
    assert missing.returncode == 2
    assert "three.md: no file of the repository" in missing.stderr
