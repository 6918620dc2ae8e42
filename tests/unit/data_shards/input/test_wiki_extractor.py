"""WikiExtractor's two forms: whole documents without their titles, and a word for what is no document."""

import json
from pathlib import Path

import pytest

from data_shards.pipeline.corpus import BadLine, WorkUnit, parse_documents, read_units, resolve_sources


def block(title: str, *lines: str) -> str:
    """As WikiExtractor writes it: neither title nor quotes are escaped, the text is."""
    header = f'<doc id="1" url="https://simple.wikipedia.org/wiki?curid=1" title="{title}">'
    return "\n".join([header, title, "", *lines, "", "</doc>", ""])


def units_of(folder: Path, content: str, **options) -> list[WorkUnit]:
    (folder / "wiki_00").write_text(content)
    (source,) = resolve_sources([str(folder / "wiki_00")], None, folder)
    return list(read_units(source, 0, text_field="text", **options))


def parse(folder: Path, content: str) -> tuple[list[str], list[BadLine]]:
    (unit,) = units_of(folder, content)
    return parse_documents(unit, "wikiextractor", "text")


def paragraphs(documents: list[str]) -> list[list[str]]:
    return [[line for line in document.split("\n") if line] for document in documents]


def test_documents_come_without_titles_and_escapes(tmp_path: Path) -> None:
    content = (
        block("April", "April is a month.", "It has 30 days.")
        + block('The "A" Team & <b>', "AT&amp;T is &lt;big&gt;.", "April")
        + block("Empty")
        + json.dumps({"id": "2", "title": "May", "text": "May is a month.\nAT&amp;T"})
        + "\n"
        + json.dumps({"id": "3", "title": "June", "text": "June\n\nJune is a month."})
        + "\n"
    )
    documents, bad = parse(tmp_path, content)
    assert bad == []
    assert paragraphs(documents) == [
        ["April is a month.", "It has 30 days."],
        ["AT&T is <big>.", "April"],
        [],
        ["May is a month.", "AT&T"],
        ["June is a month."],
    ]


def test_a_first_line_that_is_not_the_title_stays(tmp_path: Path) -> None:
    header = '<doc id="1" url="" title="April" language="en" revision="7">'
    documents, bad = parse(tmp_path, f"{header}\nApril is a month.\n</doc>\n\n{header}\nApril\nText.\n</doc>\n")
    assert (paragraphs(documents), bad) == ([["April is a month."], ["Text."]], [])


@pytest.mark.parametrize("unit_documents", [1, 2, 3, 100])
def test_no_unit_cuts_a_document(tmp_path: Path, unit_documents: int) -> None:
    content = "".join(block(f"Title {i}", *(f"Line {j} of {i}." for j in range(i))) for i in range(7))
    units = units_of(tmp_path, content, unit_documents=unit_documents)
    assert b"".join(unit.lines for unit in units).decode() == content
    assert [content.encode().split(b"\n")[unit.first_line - 1][:5] for unit in units] == [b"<doc "] * len(units)
    parsed = [parse_documents(unit, "wikiextractor", "text") for unit in units]
    assert [len(documents) for documents, _ in parsed[:-1]] == [unit_documents] * (len(units) - 1)
    documents = [document for some, _ in parsed for document in some]
    assert paragraphs(documents) == [[f"Line {j} of {i}." for j in range(i)] for i in range(7)]


def test_malformed_blocks_are_told_by_their_first_line(tmp_path: Path) -> None:
    lines = [
        "stray text",
        '<doc id="1" title="open">',
        "Never closed.",
        '<doc id="2" title="outer">',
        "Outer.",
        *block("inner", "Inner.").splitlines(),
        "Rest of outer.",
        "</doc>",
        '<doc id="3" title="x"',
        "</doc>",
        '{"title": "no text"}',
        *block("good", "Good.").splitlines(),
        '<doc id="4" title="at the end">',
        "Cut",
    ]
    documents, bad = parse(tmp_path, "\n".join(lines))
    assert paragraphs(documents) == [["Inner."], ["Good."]]
    assert [(line.line, line.reason.split(",")[0]) for line in bad] == [
        (1, "neither <doc …>"),
        (2, "<doc …> without </doc>"),
        (4, "<doc …> without </doc>"),
        (12, "neither <doc …>"),
        (13, "neither <doc …>"),
        (14, "<doc … without >"),
        (16, "no field 'text'"),
        (23, "<doc …> without </doc>"),
    ]
