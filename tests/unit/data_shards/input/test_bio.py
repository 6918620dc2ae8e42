"""Files of words with tags."""

import json
import os
import zipfile
from pathlib import Path

import pytest

from data_shards.annotated.document import Document, Mention
from data_shards.errors import UserError
from data_shards.input.bio import LineError, entities_of_tags, read_table
from data_shards.pipeline.corpus import BadLine, parse_annotated, parse_documents, read_units, resolve_sources

COLUMNS = (
    "-DOCSTART- -X- O\n\nAda NNP B-PER\nLovelace NNP I-PER\nlives VBZ O\n\n\nIn IN O\nNew NNP B-LOC\nYork NNP I-LOC\n"
)
TABLE = (
    "Sentence #,Word,POS,Tag\nSentence: 1,Ada,NNP,B-PER\n,Lovelace,NNP,I-PER\n,lives,VBZ,O\n"
    "Sentence: 2,In,IN,O\n,New,NNP,B-LOC\n,York,NNP,I-LOC\n"
)
DOCUMENTS = [
    Document.of_words([["Ada", "Lovelace", "lives"]], [Mention(0, 2, "PER", 0)]),
    Document.of_words([["In", "New", "York"]], [Mention(1, 3, "LOC", 0)]),
]


def read(path: Path, **options: int) -> tuple[list[Document], list[BadLine]]:
    (source,) = resolve_sources([str(path)], None, path.parent)
    assert source.format == "bio"
    documents, bad_lines = [], []
    for unit in read_units(source, 0, text_field="text", **options):
        some, bad = parse_annotated(unit, "bio", "text")
        documents += some
        bad_lines += bad
        assert parse_documents(unit, "bio", "text") == ([document.text for document in some], bad)
    return documents, bad_lines


@pytest.mark.parametrize(
    "content", [COLUMNS, COLUMNS.replace(" ", "\t"), COLUMNS.replace("\n", "\r\n"), COLUMNS + "\n"]
)
def test_columns(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.conll").write_bytes(content.encode())
    assert read(tmp_path / "a.conll") == (DOCUMENTS, [])
    assert read(tmp_path / "a.conll", unit_documents=1) == (DOCUMENTS, [])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_tables(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.csv").write_text(TABLE.replace("York", "Yörk"), encoding=encoding)
    documents, bad_lines = read(tmp_path / "a.csv")
    assert [document.text for document in documents] == ["Ada Lovelace lives", "In New Yörk"] and not bad_lines
    with zipfile.ZipFile(tmp_path / "b.csv.zip", "w") as archive:
        archive.writestr("__MACOSX/._ner.csv", b"\x00")
        archive.write(tmp_path / "a.csv", "ner.csv")
    assert read(tmp_path / "b.csv.zip") == (documents, [])


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-A I-A O B-A", [(0, 2), (3, 4)]),
        ("B-A B-A I-A", [(0, 1), (1, 3)]),
        ("I-A I-A O I-A", [(0, 2), (3, 4)]),  # IOB1
        ("B-A I-A E-A S-A", [(0, 3), (3, 4)]),  # BIOES
        ("B-A L-A U-A I-A", [(0, 2), (2, 3), (3, 4)]),  # BILOU, and one that goes on after the end
        ("O O", []),
    ],
)
def test_tags(tags: str, expected: list[tuple[int, int]]) -> None:
    rows = [(number, "w", tag) for number, tag in enumerate(tags.split())]
    assert entities_of_tags(rows) == [(*place, "A") for place in expected]


def test_another_type_begins_another_entity() -> None:
    rows = [(1, "w", "B-A"), (2, "w", "I-B-c"), (3, "w", "I_B-c")]
    assert entities_of_tags(rows) == [(0, 1, "A"), (1, 3, "B-c")]


@pytest.mark.parametrize("tag", ["", "X-A", "B-", "B", "0", "o"])
def test_what_is_no_tag_is_told_with_its_line(tag: str) -> None:
    with pytest.raises(LineError, match="tag") as caught:
        entities_of_tags([(7, "w", "O"), (8, "w", tag)])
    assert caught.value.line == 8


def test_bad_sentences_are_told_with_their_lines(tmp_path: Path) -> None:
    (tmp_path / "a.bio").write_bytes(COLUMNS.encode() + b"\nalone\n\nx - Q\n\n\xff - O\n\ngood - O\n")
    documents, bad_lines = read(tmp_path / "a.bio")
    assert [document.text for document in documents[2:]] == ["good"]
    assert [(bad.line, bad.reason.split(":")[0]) for bad in bad_lines] == [
        (12, "1 column, where the first row has 3"), (14, "'Q' is no tag"), (16, "invalid UTF-8")
    ]  # fmt: skip
    (tmp_path / "a.csv").write_text(TABLE + "Sentence: 3,alone,NN,\n,two\n")
    assert [(bad.line, bad.reason) for bad in read(tmp_path / "a.csv")[1]] == [
        (9, "2 columns, where the first row has 4")
    ]


def test_columns_are_split_at_blanks_and_tabs_only(tmp_path: Path) -> None:
    rows = ["10\u00a0000 _ B-NUM", "New\u00a0York  _ B-LOC", "a\u2028b _ O", "", "Name\t_\tO", "Last Name\t_\tB-PER"]
    (tmp_path / "a.conll").write_text("\n".join(rows))
    documents, bad_lines = read(tmp_path / "a.conll")
    assert [document.text for document in documents] == ["10\u00a0000 New\u00a0York a\u2028b", "Name Last Name"]
    assert documents[0].mentions == (Mention(0, 1, "NUM", 0), Mention(1, 2, "LOC", 1)) and not bad_lines


def test_a_row_of_other_columns_is_a_bad_line(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("Name _ O B-PER\nLast Name _ O I-PER\n\nlives _ O O\n")
    documents, bad_lines = read(tmp_path / "a.conll")
    assert [document.text for document in documents] == ["lives"]
    assert bad_lines == [BadLine(2, "5 columns, where the first row has 4")]
    (tmp_path / "a.csv").write_text("sentence,word,tag\n1,a,O\n1,10,000,B-NUM\n2,b,O\n")
    documents, bad_lines = read(tmp_path / "a.csv")
    assert [document.text for document in documents] == ["b"] and [bad.line for bad in bad_lines] == [3]


def test_a_table_may_name_the_sentence_in_every_row(tmp_path: Path) -> None:
    rows = ["sentence,word,tag", "1,New,B-LOC", "1,York,I-LOC", "2,Rome,B-LOC", "2,!,O"]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    found = [json.loads(line) for line in read_table((tmp_path / "a.csv").read_bytes(), tmp_path / "a.csv")]
    assert [[word for _, word, _ in sentence] for sentence in found] == [["New", "York"], ["Rome", "!"]]


def test_a_table_may_mark_every_beginning_alike(tmp_path: Path) -> None:
    content = b"sentence,word,tag\n*,New,B-LOC\n,York,I-LOC\n*,Rome,B-LOC\n,!,O\n"
    found = [json.loads(line) for line in read_table(content, tmp_path / "a.csv")]
    assert [[word for _, word, _ in sentence] for sentence in found] == [["New", "York"], ["Rome", "!"]]


def test_a_quotation_mark_that_nothing_closes_is_told(tmp_path: Path) -> None:
    content = b'sentence,word,tag\n1,"Ada' + b"x" * 200_000
    with pytest.raises(UserError, match=r"a\.csv: no table .*quotation mark"):
        list(read_table(content, tmp_path / "a.csv"))


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.csv: its first line has 2 columns"):
        list(read_table(b"word,tag\n", tmp_path / "a.csv"))
    (tmp_path / "b.csv.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"b\.csv\.zip: cannot be read"):
        read(tmp_path / "b.csv.zip")
    with zipfile.ZipFile(tmp_path / "c.csv.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(UserError, match="holds 0 files"):
        read(tmp_path / "c.csv.zip")


@pytest.mark.skipif("SPE_DIST_REAL_DATA" not in os.environ, reason="SPE_DIST_REAL_DATA names no folder of real data")
def test_a_real_table_is_read_whole() -> None:
    documents, bad_lines = read(Path(os.environ["SPE_DIST_REAL_DATA"]) / "ner_gmb_kaggle" / "ner_dataset.csv.zip")
    assert (len(documents), sum(len(document.mentions) for document in documents)) == (47_959, 111_891)
    assert not bad_lines and len({entity.type for document in documents for entity in document.mentions}) == 8
