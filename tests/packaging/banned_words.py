"""Finds banned words in prose: personification, nameless actors, and private names for what the field has a term for.

Owns: what counts as prose in each kind of file. The words, the terms to use instead and the permitted phrases are data,
in `banned_words.toml`. Must not import anything but the standard library: it runs on a tree that does not build.

Program, which `make lint` calls:

    python tests/packaging/banned_words.py [--root FOLDER] [PATH …]

PATH is a file or a folder below the root, by default all that git tracks. A finding is a line `path:line: word: use …`;
line 0 is the file's name.

Prose is: comments; docstrings and string literals of two words or more; names of tests; file names of tests, patches
and pages; the text of Markdown and of patch headers, and the comments in lines that a patch adds. Not prose:
identifiers, bytes, code spans between backticks, link targets, options and attributes, and program output in Markdown.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).with_suffix(".toml")

# What is not prose becomes this character. A phrase is found across line ends, but not across it.
CODE = "\0"


@dataclass(frozen=True)
class Rule:
    """Words that are banned, what to write instead, and the phrases in which they are permitted."""

    words: tuple[str, ...]
    instead: str
    pattern: re.Pattern[str]
    permitted: tuple[re.Pattern[str], ...]

    @classmethod
    def load(cls, entry: dict[str, object]) -> Rule:
        words, phrases = entry["words"], entry.get("permitted", [])
        assert isinstance(words, list)
        assert isinstance(phrases, list)
        case = re.NOFLAG if entry.get("case") else re.IGNORECASE
        # Neither an option nor an attribute, a call or an assignment.
        alternatives = "|".join(re.escape(word).replace(r"\ ", r"\s+") for word in words)
        pattern = rf"(?<![\w.])(?<!--)(?:{alternatives})(?![\w(=\[]|\.\w)"
        return cls(
            tuple(words),
            str(entry["instead"]),
            re.compile(pattern, case),
            tuple(re.compile(str(phrase["pattern"]), re.IGNORECASE) for phrase in phrases),
        )

    def find(self, prose: str) -> Iterator[re.Match[str]]:
        """Find the words outside of permitted phrases."""
        small = prose.lower()
        if not any(word.split()[0].lower() in small for word in self.words):  # much faster than the expression
            return
        matches = list(self.pattern.finditer(prose))
        allowed = [found.span() for phrase in self.permitted if matches for found in phrase.finditer(prose)]
        for found in matches:
            if not any(start <= found.start() and found.end() <= end for start, end in allowed):
                yield found


@dataclass(frozen=True)
class Finding:
    path: str
    line: int
    word: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.word}: use {self.instead}"


def load_rules(path: Path = DATA) -> list[Rule]:
    """Read the rules. Fields of other names than those that a rule has are an error."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["rule"]
    for entry in entries:
        if unknown := set(entry) - {"words", "instead", "case", "permitted"}:
            raise ValueError(f"{path.name}: unknown fields {sorted(unknown)}")
        if any(set(phrase) != {"pattern", "reason"} for phrase in entry.get("permitted", [])):
            raise ValueError(f"{path.name}: a permitted phrase of {entry['words'][0]!r} has a pattern and a reason")
    return [Rule.load(entry) for entry in entries]


# --- Masks --------------------------------------------------------------------------------------------------
#
# A mask has the length of its text: prose stands in it unchanged, what delimits prose is blank, and all else is CODE.


def hide(text: str) -> str:
    """Mask text that is no prose; blanks and line ends stay."""
    return re.sub(r"\S", CODE, text)


def hide_spans(text: str) -> str:
    """Mask code spans, link targets, addresses and the names that open lines of `Args:`."""
    for pattern in (
        r"(?<!`)(`+)(?!`)(?:(?!\n\s*\n).)+?(?<!`)\1(?!`)",
        r"(?<=\])\([^()\s]*\)",
        r"\b[a-z]+://\S+",
        r"(?m)^[ ]{4,}(?:\w+, )*\w+:(?=\s)",
    ):
        text = re.sub(pattern, lambda found: hide(found[0]), text, flags=re.DOTALL)
    return text


def blank(text: str) -> str:
    """Mask delimiters of prose."""
    return re.sub(r"\S", " ", text)


def literal(text: str, prefix: str, quote: str) -> str:
    """Mask a string literal: prose where two words or more are in it, but for escapes and replacement fields."""
    if "b" in prefix.lower():
        return hide(text)
    body = text[len(prefix) + len(quote) : -len(quote)]
    if "r" not in prefix.lower():
        body = re.sub(r"\\[\s\S]", lambda found: "  " if found[0][1] != "\n" else " \n", body)
    if "f" in prefix.lower():
        body = re.sub(r"\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}", lambda found: hide(found[0]), body)
    if not re.search(r"[A-Za-z]{2,}[,;:.]?\s+[A-Za-z]{2,}", body.replace(CODE, "xx")):
        return hide(text)
    return blank(prefix + quote) + body + blank(quote)


def mask_tokens(text: str, pattern: re.Pattern[str]) -> str:
    """Mask source text of a language whose comments and strings a regular expression finds.

    The expression's groups are `open`, `comment` and `close`, or `quote` and `string`.
    """
    parts, end = [], 0
    for found in pattern.finditer(text):
        parts.append(hide(text[end : found.start()]))
        if found["comment"] is not None:
            comment = re.sub(r"(?m)^(\s*)\*", r"\1 ", found["comment"])
            parts.append(blank(found["open"]) + comment + blank(found["close"] or ""))
        else:
            parts.append(literal(found[0], "", found["quote"]))
        end = found.end()
    return hide_spans("".join(parts) + hide(text[end:]))


C_TOKENS = re.compile(
    r"(?P<open>/\*+|//+)(?P<comment>(?:(?<=\*)[\s\S]*?(?=\*/|\Z))|(?:(?<=//)[^\n]*))(?P<close>\*/)?"
    r"""|(?P<quote>(?P<lines>`)|["'])(?P<string>(?:\\[\s\S]|(?!(?P=quote))[^\\\n]|(?(lines)\n|(?!)))*)(?P=quote)"""
)
HASH_TOKENS = re.compile(
    r"(?P<open>\#+)(?P<comment>[^\n]*)(?P<close>(?!))?"
    r"""|(?P<quote>(?P<lines>\"{3}|'{3})|["'])"""
    r"""(?P<string>(?:\\[\s\S]|(?!(?P=quote))[^\\\n]|(?(lines)\n|(?!)))*)(?P=quote)"""
)


def mask_c(text: str) -> str:
    """C, and TypeScript. A test is what the native tests' RUN names."""
    names = {found[1] for found in re.finditer(r"\bRUN\w*\(\s*(\w+)\s*\)", text)}
    return names_of_tests(text, mask_tokens(text, C_TOKENS), names)


def mask_hash(text: str) -> str:
    """TOML, make and shell."""
    return mask_tokens(text, HASH_TOKENS)


def names_of_tests(text: str, mask: str, names: Iterable[str]) -> str:
    """Uncover the names of tests where they are defined, as words."""
    for name in names:
        for found in re.finditer(rf"(?m)(?:^\s*(?:async )?def |^static void |^void ){re.escape(name)}\b", text):
            start = found.end() - len(name)
            mask = mask[:start] + name.replace("_", " ") + mask[found.end() :]
    return mask


def mask_python(text: str) -> str:
    """Python, by its tokens. Text that is not Python, as an excerpt may be, has its comments masked at least."""
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    mask = list(hide(text))
    opened: list[int] = []  # of f-strings, which are several tokens from CPython 3.12 on
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            kind = tokenize.tok_name[token.type]
            start, end = (starts[row - 1] + column for row, column in (token.start, token.end))
            if kind == "FSTRING_START":
                opened.append(start)
                continue
            if kind == "FSTRING_END":
                start, kind = opened.pop(), "STRING" if len(opened) == 0 else "NESTED"
            if kind == "COMMENT":
                mask[start:end] = " " + text[start + 1 : end]
            elif kind == "STRING" and not opened:
                opening = re.match(r"(\w*)(\"\"\"|'''|\"|')", text[start:end])
                assert opening is not None
                mask[start:end] = literal(text[start:end], opening[1], opening[2])
    except (tokenize.TokenError, SyntaxError):
        return mask_hash(text)
    names = re.findall(r"(?m)^\s*(?:async )?def (test_\w+)", text)
    return hide_spans(names_of_tests(text, "".join(mask), names))


def mask_markdown(text: str) -> str:
    """Markdown: program text in its blocks as its language, program output not at all."""
    parts, end = [], 0
    for found in re.finditer(r"(?ms)^( *)(```+)[ ]*([^\n]*)\n(.*?)^\1\2[ ]*$", text):
        parts.append(hide_spans(text[end : found.start()]))
        language, body = found[3].strip(), found[4]
        if language.startswith("{"):
            masked = hide_spans(body)
        elif language in ("python", "py"):
            masked = mask_python(body)
        else:  # commands and their output: only the comments are ours
            masked = re.sub(r"(?m)^(.*?)((?:(?<=\s)|^)# [^\n]*)?$", lambda line: hide(line[1]) + (line[2] or ""), body)
        parts.append(hide(text[found.start() : found.start(4)]) + masked + hide(text[found.end(4) : found.end()]))
        end = found.end()
    return "".join(parts) + hide_spans(text[end:])


def mask_patch(text: str) -> str:
    """A patch: the text before the diff, and the comments and messages in the lines that it adds."""
    head, mark, diff = text.partition("\n--- ")
    parts = [re.sub(r"(?m)^[A-Z][a-z-]+:", lambda found: hide(found[0]), hide_spans(head)), hide(mark)]
    for hunk in re.split(r"(?m)^(?=@@ )", diff):
        lines = hunk.splitlines(keepends=True)
        new = ["" if line.startswith(("-", "@@", "\\")) else line[1:] for line in lines]
        source = "".join(line or "\n" for line in new)
        begins_within = re.match(r"(?:(?!/\*)[\s\S])*?\*/", source) is not None  # a comment
        masked = mask_c("/*" + source)[2:] if begins_within else mask_c(source)
        for line, mask in zip(lines, masked.splitlines(keepends=True), strict=True):
            parts.append(CODE + mask if line.startswith("+") and not line.startswith("+++") else hide(line))
    return "".join(parts)


MASKS = {
    ".c": mask_c,
    ".h": mask_c,
    ".ts": mask_c,
    ".js": mask_c,
    ".py": mask_python,
    ".pyi": mask_python,
    ".md": mask_markdown,
    ".patch": mask_patch,
    ".toml": mask_hash,
    ".yml": mask_hash,
    ".yaml": mask_hash,
    ".sh": mask_hash,
    "": mask_hash,  # Makefile, .ci/run, .gitignore
}
# Licences are quoted; the rules and the tests of this program name the words.
LEFT_OUT = ("LICENSE", "COPYING", DATA.name, "test_banned_words.py")


def check_text(path: str, text: str, rules: Iterable[Rule]) -> list[Finding]:
    """Return what is banned in a file's text, by line."""
    name = Path(path)
    mask = MASKS[name.suffix](text)
    found = [
        Finding(path, mask.count("\n", 0, match.start()) + 1, " ".join(match[0].split()), rule.instead)
        for rule in rules
        for match in rule.find(mask)
    ]
    if name.suffix in (".patch", ".md") or name.name.startswith("test_"):
        words = re.sub(r"[-_]", " ", name.stem)
        found += [Finding(path, 0, match[0], rule.instead) for rule in rules for match in rule.find(words)]
    return sorted(found, key=lambda finding: (finding.line, finding.word))


def tracked(root: Path, paths: list[str]) -> list[str]:
    """Return the files that git tracks, or would, below the root and the paths."""
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *paths],
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted({name for name in listed.stdout.split("\0") if name and (root / name).is_file()})


def check_tree(root: Path, paths: list[str], rules: list[Rule]) -> list[Finding]:
    """Check the files of a working tree. Paths are relative to its root.

    Raises:
        ValueError: there is no file that can be checked at a path.
    """
    found = []
    for path in paths:
        if not tracked(root, [path]):
            raise ValueError(f"{path}: no file of the repository")
    for name in tracked(root, paths):
        if Path(name).suffix in MASKS and Path(name).name not in LEFT_OUT:
            found += check_text(name, (root / name).read_text(encoding="utf-8"), rules)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Find banned words in prose, comments, messages and names of tests.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[2], help="the working tree")
    parser.add_argument("paths", nargs="*", help="files or folders below it (default: all that git tracks)")
    arguments = parser.parse_args()
    try:
        found = check_tree(arguments.root, arguments.paths, load_rules())
    except (ValueError, subprocess.CalledProcessError) as error:
        print(f"banned_words: {getattr(error, 'stderr', None) or error}", file=sys.stderr)
        return 2
    for finding in found:
        print(finding)
    if found:
        print(f"{len(found)} banned words; the rules are in {DATA.name}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
