"""What tells a format, and what only looks as if it did."""

import io
from pathlib import Path

import pytest

from data_shards.input.format import format_of
from data_shards.input.stream import InputStream

WIKI = '{"id": "1", "revid": "2", "url": "https://x.org/wiki?curid=1", "title": "T", "text": "t"}\n'


def found(content: str, name: str = "") -> str | None:
    stream = InputStream(io.BytesIO(content.encode()), name, Path(name) if name else None)
    form = format_of(stream)
    assert b"".join(stream.lines()).decode() == content  # looking takes nothing away
    return form


@pytest.mark.parametrize(
    ("content", "form"),
    [
        ('{"text": "a"}\n', "jsonl"),
        ('\n{"text": "a"\n{"text": "b"}\n', "jsonl"),  # a bad line, then a good one
        ('{"text": "' + "x" * 3_000_000 + '"}\n', "jsonl"),
        ("{\n", "jsonl"),
        ('{\n "text": "a"\n}', "json"),
        ('{"tokens": ["a",\n "b"]}', "json"),
        ('[{"text": "a"}]', "json"),
        ('[\n\n  {\n"a": 1}]', "json"),
        ("[]", "json"),
        ('<doc id="1" title="a">\na\n</doc>\n', "wikiextractor"),
        (WIKI, "wikiextractor"),
        (WIKI.replace("?curid=", "/"), "jsonl"),  # another set of Wikipedia's texts
        (WIKI.replace('"text"', '"entities": [], "text"'), "jsonl"),
        ("PAR1\x15\x04", "parquet"),
        ("-DOCSTART- -X- O\n\nEU B-ORG\n", "bio"),
        ("EU NNP B-ORG\nsigns VB O\n\nSo RB O\n", "bio"),
        ("EU\tB-ORG\n" * 19 + "signs\tO\n" + "a\tb\tc\n", "bio"),
    ],
)
def test_first_lines_tell(content: str, form: str) -> None:
    assert found(content) == form
    assert found(content, "a.txt") == form  # more than the ending does


@pytest.mark.parametrize(
    "content",
    [
        "",
        "\n",
        "Ada lives in Oz.\n",
        "[1] Smith et al.\n",
        "[[link]] of a wiki\n",
        "[\nmusic\n]\n",
        "{citation needed}\n",
        '{\\"A}rger\n',
        "Vitamin B-12\nVitamin B-6\n",
        "blood group O\nis common\n",
        "blood group O\n",
        "<document>\n",
        "Apples\tB-1\nPears and plums\tO\tx\n",
    ],
)
def test_text_looks_like_nothing_else(content: str) -> None:
    assert found(content) is None
    assert found(content, "a.txt") == "text"


@pytest.mark.parametrize(
    ("name", "form"),
    [("a.jsonl", "jsonl"), ("a.ndjson.gz", "jsonl"), ("a.parquet", "parquet"), ("AA/wiki_01.bz2", "wikiextractor"),
     ("a.csv.zip", "bio"), ("a.csv.gz", "csv"), ("a.tsv", "csv"),
     ("a.IOB2", "bio"), ("a.dump", None), ("README.md", None)],
)  # fmt: skip
def test_endings_tell_what_first_lines_do_not(name: str, form: str | None) -> None:
    assert found("words\n", name) == form


def test_the_first_row_tells_words_with_tags_from_a_table_of_texts() -> None:
    assert found('Sentence #,Word,Tag\r\nSentence: 1,"Ada","B-PER"\r\n', "a.csv") == "bio"
    assert found("sentence,word,tag\n1,a,B-PER\n", "a.tsv") == "bio"
    assert found("word,tag\na,O\n", "a.csv") == found("id,text,by\n1,a,me\n", "a.csv") == "csv"
    assert found("Ada\tB-PER\nlives\tO\n", "a.tsv") == "bio"


def test_the_second_line_is_not_waited_for() -> None:
    class Typed(io.BytesIO):
        def readline(self, size: int | None = -1) -> bytes:
            assert self.tell() == 0, "waits for another line"
            return super().readline(size)

    for line in (b'{"text": "a"}\n', b"Ada lives.\n", b'[{"text": "a"},\n', b'<doc id="1">\n', b"[1] Smith\n"):
        format_of(InputStream(Typed(line + b"more\n"), "standard input", None))
