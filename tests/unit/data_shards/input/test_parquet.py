"""Rows of Parquet files as documents: the same units whatever the row groups, and a word for all that is no text."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_shards.errors import UserError
from data_shards.pipeline.corpus import WorkUnit, parse_documents, read_units, resolve_sources

TEXTS = [f'Document {i} "of" Zürich.\nIts second paragraph.' for i in range(1, 11)]


def write(path: Path, column: pa.Array | list[str], **options) -> Path:
    pq.write_table(pa.table({"id": list(range(len(column))), "text": column}), path, **options)
    return path


def units_of(path: Path, text_field: str = "text", **options) -> list[WorkUnit]:
    (source,) = resolve_sources([str(path)], None, path.parent)
    return list(read_units(source, 0, text_field=text_field, **options))


KINDS = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("row_group_size", [1, 3, 100])
def test_units_are_runs_of_rows_whatever_the_row_groups(tmp_path: Path, kind: pa.DataType, row_group_size: int) -> None:
    path = write(tmp_path / "a.parquet", pa.array(TEXTS).cast(kind), row_group_size=row_group_size)
    units = units_of(path, unit_documents=4)
    assert [(unit.unit_index, unit.first_line) for unit in units] == [(0, 1), (1, 5), (2, 9)]
    documents = [parse_documents(unit, "parquet", "text")[0] for unit in units]
    assert documents == [TEXTS[:4], TEXTS[4:8], TEXTS[8:]]
    assert units == units_of(write(tmp_path / "b.parquet", TEXTS), unit_documents=4)


def test_rows_without_text_are_counted_with_their_numbers(tmp_path: Path) -> None:
    not_utf8 = pa.Array.from_buffers(
        pa.string(), 4, pa.array([b"good", None, b"\xff", b"also good"], pa.binary()).buffers()
    )
    (unit,) = units_of(write(tmp_path / "a.parquet", not_utf8))
    documents, bad = parse_documents(unit, "parquet", "text")
    assert documents == ["good", "also good"]
    assert [(line.line, line.reason) for line in bad] == [(2, "null instead of text"), (3, "invalid UTF-8")]


def test_a_part_without_any_text_is_read(tmp_path: Path) -> None:
    (unit,) = units_of(write(tmp_path / "a.parquet", pa.nulls(2)))
    documents, bad = parse_documents(unit, "parquet", "text")
    assert documents == [] and [line.reason for line in bad] == ["null instead of text"] * 2


@pytest.mark.parametrize("plaintext_footer", [True, False])
def test_an_encrypted_file_is_refused(tmp_path: Path, plaintext_footer: bool) -> None:
    from pyarrow.parquet import encryption

    class Keys(encryption.KmsClient):
        def __init__(self, _):
            super().__init__()

        def wrap_key(self, key, _):
            return key.hex().encode()

    settings = encryption.EncryptionConfiguration(
        "key", column_keys={"key": ["text"]}, plaintext_footer=plaintext_footer
    )
    factory = encryption.CryptoFactory(Keys)
    properties = factory.file_encryption_properties(encryption.KmsConnectionConfig(), settings)
    path = write(tmp_path / "a.parquet", TEXTS, encryption_properties=properties)
    with pytest.raises(UserError, match=r"a\.parquet: an encrypted Parquet file: write it without encryption"):
        units_of(path)


def test_a_column_that_cannot_be_is_refused_by_name(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(UserError, match=r"twice\.parquet: 2 columns are named 'text': rename all but one"):
        units_of(tmp_path / "twice.parquet")
    with pytest.raises(UserError, match="column 'text' holds binary, not strings: convert it to strings"):
        units_of(write(tmp_path / "binary.parquet", pa.array([b"a"])))
    path = write(tmp_path / "a.parquet", TEXTS)
    with pytest.raises(UserError, match=r"a\.parquet: no column 'body', only id, text: name one with --text-field"):
        units_of(path, "body")
    with pytest.raises(UserError, match=r"a\.parquet: column 'id' holds int64, not strings"):
        units_of(path, "id")


def test_a_file_that_is_no_parquet_or_a_damaged_one_is_one_line(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.parquet", TEXTS).read_bytes()
    damaged = whole[:4] + bytes(300) + whole[304:]  # the pages, not the footer
    for number, content in enumerate([b"", b"text", whole[:-20], damaged]):
        path = tmp_path / f"{number}.parquet"
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"{number}\.parquet: not a Parquet file, or a damaged one") as error:
            units_of(path)
        assert "\n" not in str(error.value)
