"""No packet ends a stack: each assertion of the compiled sources is listed with the reason why nothing reaches it."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

import pytest

from tests.packaging import assertions

COMPILER = assertions.compiler()

pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="no C compiler is installed"),
    pytest.mark.skipif(not (assertions.LWIP / "build" / "stamp").exists(), reason="`make wasm` fetches lwIP's sources"),
]

EXAMPLE = r"""
#include "lwip/debug.h"
#include "lwip/def.h"
/* LWIP_ASSERT("in a comment", 0); */
// LWIP_ASSERT("in another", 0);
#define CHECKED(x) LWIP_ASSERT("by a macro", (x) < 3)
static const char *text = "LWIP_ASSERT(\"in a string\", 0)";
int example(int a, const char *b) {
  LWIP_ASSERT("plain", a != 0);
  LWIP_ASSERT(("in parentheses\n"), 0);
  LWIP_ASSERT("over "
              "two (lines), \"quoted\"",
              a > LWIP_MAX(1,
                           2));
#if 0
  LWIP_ASSERT("not compiled", 0);
#endif
  CHECKED(a); CHECKED(*b);
  if (a == 7) { LWIP_ASSERT("plain", b != text); }
  return a;
}
"""


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return assertions.marked_headers(tmp_path_factory.mktemp("headers"))


def expand(source: Path, headers: Path) -> str:
    assert COMPILER is not None
    return assertions.expand(COMPILER, source, headers)


def name_of(source: Path) -> str:
    """Return the path of a source as the list has it: below lwIP's top folder, or below the repository."""
    build = assertions.LWIP / "build"
    return source.relative_to(build if source.is_relative_to(build) else assertions.ROOT).as_posix()


def test_the_list_is_complete(headers: Path) -> None:
    found: assertions.Assertions = Counter()
    sources = assertions.sources()
    for source in sources:
        text = expand(source, headers)
        found.update((name_of(source), message) for message in assertions.asserted(text))
        assert assertions.other_ends(text) == [], f"{source.name} ends the stack without an assertion"
    groups = tomllib.loads(assertions.LIST.read_text(encoding="utf-8"))["group"]
    expected = assertions.listed(groups)
    new, gone = found - expected, expected - found
    assert not new, f"not in {assertions.LIST.name}: say why no packet and no call reaches {dict(new)}"
    assert not gone, f"in {assertions.LIST.name}, but no longer in the sources: {dict(gone)}"
    # The sources were read: lwIP asserts something in most of its files.
    assert len(sources) > 60
    assert len({file for file, _ in found}) > 20


def test_each_group_has_a_reason() -> None:
    groups = tomllib.loads(assertions.LIST.read_text(encoding="utf-8"))["group"]
    reasons = [group["reason"].strip() for group in groups]
    assert all(len(reason) > 40 for reason in reasons)
    assert len(set(reasons)) == len(reasons)


def test_only_compiled_assertions_are_found(tmp_path: Path, headers: Path) -> None:
    source = tmp_path / "example.c"
    source.write_text(EXAMPLE)
    found = Counter(assertions.asserted(expand(source, headers)))
    assert found == {
        "plain": 2,
        r"in parentheses\n": 1,
        r"over two (lines), \"quoted\"": 1,
        "by a macro": 2,
    }


def test_a_message_that_is_not_a_literal_is_an_error(tmp_path: Path, headers: Path) -> None:
    source = tmp_path / "example.c"
    source.write_text('#include "lwip/debug.h"\nvoid example(const char *text) { LWIP_ASSERT(text, text != 0); }\n')
    with pytest.raises(AssertionError, match="1 assertions, 0 of which"):
        assertions.asserted(expand(source, headers))


@pytest.mark.parametrize(
    "statement",
    ["__builtin_trap();", "abort();", "__builtin_unreachable ();", "exit(1);", 'LWIP_PLATFORM_ASSERT("directly");'],
)
def test_other_ways_to_end_a_stack_are_found(tmp_path: Path, headers: Path, statement: str) -> None:
    source = tmp_path / "example.c"
    source.write_text(f'#include "lwip/debug.h"\n#include <stdlib.h>\nvoid example(void) {{ {statement} }}\n')
    assert len(assertions.other_ends(expand(source, headers))) == 1
