"""Every block of Python in README.md and docs/ is run as it stands, in a process of its own.

A comment before a block says how, and is not shown where the document is:

    <!-- run: NAME.py, prints: TEXT -->    as a program, which prints a text, among others
    <!-- run: NAME.py, fails: TEXT -->     the same, and its exit status is not 0
    <!-- pytest: test_NAME.py -->          as a file of tests
    <!-- file: NAME.py -->                 only written, for blocks that come later

All blocks of a document are files of one folder, so that those that follow may import it. Those of the tutorial are
parts of a program in examples/, see tests/simulation/test_replicated_store.py.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tcpip_wasm import cli

ROOT: Final = Path(__file__).resolve().parents[1]
DOCUMENTS: Final = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
TUTORIAL: Final = ROOT / "docs" / "tutorial" / "replicated-store.md"
BLOCK: Final = re.compile(r"(?:^<!-- ([^>]*) -->\n)?^( *)```python\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
DIRECTIVE: Final = re.compile(r"(run|pytest|file): (\w+\.py)(?:, (prints|fails): (.+))?")
NEEDS: Final = {"import httpx": "httpx", "import uvicorn": "uvicorn"}
TIMEOUT: Final = 120


class Block(NamedTuple):
    """A block of Python.

    Attributes:
        document: where it stands.
        kind: ``run``, ``pytest`` or ``file``.
        name: of its file.
        ending: ``prints`` or ``fails``, or empty.
        text: what it prints.
        code: what is in it.
    """

    document: Path
    kind: str
    name: str
    ending: str
    text: str
    code: str


def blocks_of(document: Path) -> list[Block]:
    """Return the blocks of a document; a block without a comment has the kind ``""``."""
    found = []
    for comment, _, code in BLOCK.findall(document.read_text(encoding="utf-8")):
        directive = DIRECTIVE.fullmatch(comment)
        kind, name, ending, text = directive.groups("") if directive else ("", "", "", "")
        found.append(Block(document, kind, name, ending, text, code))
    return found


BLOCKS: Final = [block for document in DOCUMENTS if document != TUTORIAL for block in blocks_of(document)]


def test_blocks_are_found() -> None:
    """All blocks are found, and each has a directive."""
    for document in DOCUMENTS:
        fences = re.findall(r"^ *```(?:python|py)\b", document.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(blocks_of(document)) == len(fences), document
    assert len(BLOCKS) >= 9
    assert [block.code for block in BLOCKS if not block.kind] == []


@pytest.mark.parametrize(
    "block",
    [block for block in BLOCKS if block.kind != "file"],
    ids=lambda block: f"{block.document.stem}-{block.name}",
)
def test_blocks_run_as_they_stand(block: Block, tmp_path: Path) -> None:
    for statement, module in NEEDS.items():
        if statement in block.code:
            pytest.importorskip(module)
    for one in BLOCKS:
        if one.document == block.document:
            (tmp_path / one.name).write_text(one.code, encoding="utf-8")
    program = [sys.executable, "-W", "error"]
    if block.kind == "pytest":
        program += ["-m", "pytest", "-q", "-p", "pytest_tcpip_wasm", "-p", "no:asyncio", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*program, block.name],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
    )
    assert (done.returncode != 0) == (block.ending == "fails"), done.stdout
    assert block.text in done.stdout
    if block.ending == "prints":
        assert "Traceback" not in done.stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.stem)
def test_links_have_targets(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    headings = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif "://" not in target:
            assert (document.parent / target.partition("#")[0]).exists(), target


# --- The pages ------------------------------------------------------------------------------------------------------

DOCS: Final = ROOT / "docs"
REFERENCE: Final = DOCS / "reference"
SOURCES: Final = ["tcpip_wasm", "benchmarks", "examples", "wasm", "js/src", "*.py"]
NAMING: Final = [*SOURCES, "tests", "third_party", "README.md", "Makefile"]
"""Files that name pages. The changelog also names pages of earlier versions."""


def pages_named_in(names: list[str]) -> set[str]:
    """Return the paths of pages that files of the repository name."""
    kinds = {".py", ".md", ".toml", ".c", ".h", ".ts", ""}
    files = [path for name in names for top in ROOT.glob(name) for path in (top.rglob("*") if top.is_dir() else [top])]
    return {
        page
        for path in files
        if path.is_file() and path.suffix in kinds and "build" not in path.parts
        for page in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text(encoding="utf-8", errors="replace"))
    }


def test_pages_that_files_name_exist() -> None:
    named = pages_named_in(NAMING)
    assert len(named) > 20
    assert {page for page in named if not (ROOT / page).is_file()} == {"docs/x.md"}  # a sample in test_wheel.py


SPAN: Final = re.compile(r"(?<!`)`([\w./-]+)`(?!`)")
"""A code span without spaces: a path, or a name."""

SOURCE: Final = re.compile(r"[\w./-]+\.(?:py|c|h|toml|md)")
FOLDERS: Final = ["tcpip_wasm", "wasm", "tests", "benchmarks", "examples", "third_party", "docs", "js"]
TOPS: Final = [ROOT, ROOT / "tcpip_wasm", ROOT / "wasm" / "src", ROOT / "wasm" / "include"]
"""Folders that a path on a page may be relative to."""

CREATED: Final = {"greet.py", "test_store.py", "tcpip_wasm/lwip.wasm"}
"""Files that a reader or a build creates."""


def names_a_file(span: str) -> bool:
    """Whether a code span is the path of a source file, or of a file or folder in a folder of the repository."""
    return SOURCE.fullmatch(span) is not None or (span.split("/")[0] in FOLDERS and "/" in span)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.stem)
def test_files_that_pages_name_are_there(document: Path) -> None:
    prose = re.sub(r"^ *```.*?^ *```$", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    named = {span for span in SPAN.findall(prose) if names_a_file(span)} - CREATED
    assert {span for span in named if not any((top / span).exists() for top in TOPS)} == set()


def test_sources_name_the_pages_that_explain_them() -> None:
    pages = {path.relative_to(ROOT).as_posix() for path in (DOCS / "explanation").glob("*.md")}
    assert pages - pages_named_in(SOURCES) == {"docs/explanation/index.md"}


def test_each_page_is_in_a_table_of_contents() -> None:
    listed = {DOCS / "index.md"}
    for page in DOCS.glob("**/*.md"):
        text = page.read_text(encoding="utf-8")
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            listed |= {page.parent / f"{line}.md" for line in tree.splitlines() if line and line[0] != ":"}
    assert listed == set(DOCS.glob("**/*.md"))


@pytest.mark.parametrize("module", ["tcpip_wasm", "streams", "compat", "links", "capture", "simulation", "errors"])
def test_the_reference_has_all_public_names(module: str) -> None:
    """A page documents all names of a module, or lists them."""
    text = "".join(path.read_text(encoding="utf-8") for path in REFERENCE.glob("*.md"))
    if module != "tcpip_wasm":
        assert re.search(rf"^\.\. automodule:: tcpip_wasm\.{module}$", text, re.MULTILINE)
        return
    elsewhere = {*import_module("tcpip_wasm.streams").__all__, *import_module("tcpip_wasm.errors").__all__}
    listed = re.findall(r"^\.\. auto(?:class|function):: tcpip_wasm\.(\w+)$", text, re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == set(import_module("tcpip_wasm").__all__) - elsewhere


def test_the_page_of_the_command_has_all_options() -> None:
    (commands,) = (action for action in cli._parser()._actions if isinstance(action, argparse._SubParsersAction))
    text = (REFERENCE / "command-line.md").read_text(encoding="utf-8")
    sections = {section.split("\n", 1)[0]: section for section in text.split("\n## ")[1:]}
    assert set(sections) == set(commands.choices)
    for name, parser in commands.choices.items():
        options = {option for action in parser._actions for option in action.option_strings} - {"-h", "--help"}
        assert set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", sections[name].partition("| option")[2])) >= options
        rows = re.findall(r"^\| (`-.*?) \|", sections[name], re.MULTILINE)
        assert set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", " ".join(rows))) == options
