"""Extensions of Sphinx for these pages: links to files outside of docs/, and the layout of docstrings."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.util.nodes import make_refnode

if TYPE_CHECKING:
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|`[^`]*`)+)\]\((?!https?://|mailto:|#)([^)\s]+)\)")
"""A relative link of Markdown: its text and its target."""

REPOSITORY = ("repository", "source", "homepage")
"""Names of the project's URLs that may be its repository, as in hatch_build.py."""

PLURAL = re.compile(r"(?<![\w`])(`+)[^`\s][^`]*\1(?=\w)")
"""A name in backquotes, followed by the letter of a plural."""

PAGE = re.compile(r"\bdocs/([\w/-]+)\.md\b")
"""The path of a page."""

PARAGRAPH = re.compile(r"(?!:|\.\. |- |\* )\S.*(?<!::)$")
"""A line that is not indented, and is neither a field, a directive, a list item nor the introduction of a block."""

ENTRY = re.compile(r"\s*\*{0,2}[\w.]+(, \*{0,2}[\w.]+)*( \([^)]*\))?:")
"""The beginning of an entry in a section of a docstring: names, and a colon."""


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the handlers of this module; Sphinx calls it."""
    app.connect("source-read", resolve_repository_links)
    # Napoleon has priority 500: it converts sections such as ``Args:`` into fields.
    app.connect("autodoc-process-docstring", indent_continuations, priority=400)
    app.connect("autodoc-process-docstring", keep_columns, priority=600)
    app.connect("doctree-resolved", keep_markers)
    app.connect("missing-reference", resolve_by_last_part)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def repository_url() -> str | None:
    """Return the URL of the project's repository; None if pyproject.toml names none."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    urls = {name.lower(): url for name, url in project.get("urls", {}).items()}
    return next((urls[name].rstrip("/") for name in REPOSITORY if name in urls), None)


def resolve_repository_links(app: Sphinx, docname: str, source: list[str]) -> None:
    """Replace links to files of the repository that are not pages.

    Relative links work only inside the repository. They become absolute; while the project has no public address, they
    are replaced by their text and the file's path.
    """
    folder, base = Path(app.srcdir, docname).parent, repository_url()

    def replaced(found: re.Match[str]) -> str:
        text, target = found.groups()
        path = Path(os.path.normpath(folder / target.partition("#")[0]))
        if path.is_relative_to(app.srcdir):
            return found[0]
        name = path.relative_to(ROOT).as_posix()
        if base:
            return f"[{text}]({base}/blob/HEAD/{name})"
        return f"`{name}`" if text.strip("`") in (name, path.name, path.stem) else f"{text} (`{name}`)"

    source[0] = LINK.sub(replaced, source[0])


def keep_columns(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Convert indented text after a paragraph into a literal block: tables of names, drawings.

    Also separates a plural's letter from the name in backquotes before it, as reStructuredText requires, and converts
    the paths of pages into links.
    """
    kept: list[str] = []
    for number, line in enumerate(lines):
        kept.append(PAGE.sub(r":doc:`/\1`", PLURAL.sub(r"\g<0>\\ ", line)))
        blank, following = [*lines[number + 1 : number + 3], "", ""][:2]
        if PARAGRAPH.match(line) and not blank.strip() and following.startswith("    "):
            kept[-1:] = [f"{kept[-1]}:"] if line.endswith(":") else [kept[-1], "", "::"]
    lines[:] = kept


def indent_continuations(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Indent the continuation lines of an entry, which many docstrings of this package do not indent.

    Napoleon parses a line of a section with the indentation of an entry as another entry.
    """
    section = False
    for number, line in enumerate(lines):
        if re.fullmatch(r"\s*(Args|Attributes|Raises):", line):
            section, indent = True, len(line) - len(line.lstrip()) + 4
        elif section and line.strip():
            depth = len(line) - len(line.lstrip())
            section = depth >= indent
            if depth == indent and not ENTRY.match(line):
                lines[number] = "    " + line


def keep_markers(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Replace nodes that the Markdown builder does not support: ``*`` and ``/`` in signatures are abbreviations."""
    if app.builder.name == "markdown":
        for node in list(doctree.findall(nodes.abbreviation)):
            node.replace_self(nodes.Text(node.astext()))


def resolve_by_last_part(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: nodes.Element
) -> nodes.Node | None:
    """Resolve a name in a docstring that is the last part of exactly one public object's name."""
    if node.get("refdomain") != "py" or not app.builder:
        return None
    domain = env.domains.python_domain
    found = {
        (entry.docname, entry.node_id)
        for name, entry in domain.objects.items()
        if name.endswith(f".{node['reftarget']}") and not entry.aliased
    }
    if len(found) != 1:
        return None
    ((docname, anchor),) = found
    return make_refnode(app.builder, node["refdoc"], docname, anchor, contnode)
