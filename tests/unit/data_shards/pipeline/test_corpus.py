import bz2
import gzip
import io
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_shards.errors import UserError
from data_shards.pipeline.corpus import parse_documents, read_units, resolve_sources
from data_shards.text.sentences import split_sentences


def write(path: Path, content: bytes) -> str:
    compress = {".gz": gzip.compress, ".bz2": bz2.compress}.get(path.suffix, bytes)
    path.write_bytes(compress(content))
    return str(path)


@pytest.mark.parametrize("ending", ["", ".gz", ".bz2"])
def test_units_hold_every_line_once_and_know_where_they_start(tmp_path: Path, ending: str) -> None:
    content = b"".join(f"line {i}\n".encode() for i in range(1, 11)) + b"no newline at the end"
    (source,) = resolve_sources([write(tmp_path / f"a.txt{ending}", content)], None, tmp_path)
    units = list(read_units(source, 7, text_field="text", unit_documents=4))
    assert b"".join(unit.lines for unit in units) == content
    assert [(unit.input_index, unit.unit_index, unit.first_line) for unit in units] == [(7, 0, 1), (7, 1, 5), (7, 2, 9)]


def test_units_of_long_documents_are_cut_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_shards.pipeline.corpus.UNIT_BYTES", 100)
    (source,) = resolve_sources([write(tmp_path / "a.txt", b"x" * 59 + b"\n" + b"y" * 59 + b"\nz\n")], None, tmp_path)
    assert [unit.lines[:1] for unit in read_units(source, 0, text_field="text")] == [b"x", b"z"]


def test_formats_are_told_by_endings_or_by_the_option(tmp_path: Path) -> None:
    formats = {
        "a.txt": "text", "b.jsonl": "jsonl", "c.json.gz": "jsonl", "d.txt.bz2": "text", "e.parquet": "parquet",
        "wiki_00": "wikiextractor", "wiki_123.bz2": "wikiextractor",
    }  # fmt: skip
    names = [write(tmp_path / name, b"x\n") for name in formats]
    assert [s.format for s in resolve_sources(names, None, tmp_path)] == list(formats.values())
    assert resolve_sources([write(tmp_path / "e.dump", b"x")], "text", tmp_path)[0].format == "text"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.txt", "no such file"),
        ("empty", "empty is a folder without files"),
        ("pipe", "pipe is a pipe or device, .*: give it as standard input"),
        ("x.dump", r"x\.dump.*--format"),
        (".", r"x\.dump.*--format"),
    ],
)
def test_inputs_that_cannot_be_are_refused_by_name(tmp_path: Path, name: str, message: str) -> None:
    write(tmp_path / "x.dump", b"x")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty" / "_SUCCESS", b"")
    with pytest.raises(UserError, match=message):
        resolve_sources([str(tmp_path / name)], None, tmp_path)


def test_a_folder_is_its_files_in_the_order_of_their_paths(tmp_path: Path) -> None:
    names = ["AA/wiki_00", "AA/wiki_01", "AB/wiki_00", "z.txt"]
    for name in [*reversed(names), ".hidden/a.txt", "AA/_SUCCESS"]:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / "in" / name, b"x\n")
    sources = resolve_sources([str(tmp_path / "in"), str(tmp_path / "in" / "z.txt")], None, tmp_path)
    assert [source.name for source in sources] == [*names, "z.txt"]
    assert [source.format for source in sources] == ["wikiextractor"] * 3 + ["text"] * 2


def test_standard_input_is_spooled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"one .\ntwo .\n")))
    (source,) = resolve_sources(["-"], "text", tmp_path / "out")
    assert [unit.lines for unit in read_units(source, 0, text_field="text")] == [b"one .\ntwo .\n"]
    with pytest.raises(UserError, match="only once"):
        resolve_sources(["-", "-"], "text", tmp_path)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-20], lambda data: b"not compressed", lambda data: data[:150] + b"x" * 50]
)
@pytest.mark.parametrize(("ending", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_damaged_compression_is_named(tmp_path: Path, damage, ending: str, compress) -> None:
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(damage(compress(bytes(i * i % 251 for i in range(20_000)))))
    (source,) = resolve_sources([str(path)], "text", tmp_path)
    with pytest.raises(UserError, match=r"a\.txt\.(gz|bz2).*damaged or truncated"):
        list(read_units(source, 0, text_field="text", unit_documents=1))


def test_a_line_that_memory_cannot_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_shards.input.stream.MAX_LINE", 2 << 20)
    path = write(tmp_path / "a.txt.gz", b"one .\n" + b"x" * (5 << 20))
    (source,) = resolve_sources([path], None, tmp_path)
    with pytest.raises(UserError, match=r"a\.txt\.gz: line 2 is longer than 2 MiB: is this a text file\?"):
        list(read_units(source, 0, text_field="text"))


def test_bad_lines_are_told_apart_with_number_and_reason(tmp_path: Path) -> None:
    lines = [
        b"\xef\xbb\xbf" + json.dumps({"text": "good"}).encode(),
        b"{",
        b"[1]",
        b'{"txt": "x"}',
        b'{"text": 3}',
        b'{"text": "\xff"}',
        b'{"text": "\\ud800"}',
        b"[" * 100_000,
        b"  ",
        b'{"text": "also good"}\r',
    ]
    (source,) = resolve_sources([write(tmp_path / "a.jsonl", b"\n".join(lines))], None, tmp_path)
    (unit,) = read_units(source, 0, text_field="text")
    documents, bad = parse_documents(unit, "jsonl", "text")
    assert documents == ["good", "also good"]
    assert [line.line for line in bad] == [2, 3, 4, 5, 6, 7, 8]
    reasons = [
        "invalid JSON",
        "not a JSON object",
        "no field",
        "not a string",
        "invalid UTF-8",
        "surrogate",
        "too deeply",
    ]
    assert all(reason in line.reason for line, reason in zip(bad, reasons, strict=True))


def test_sentences_are_stripped_and_stop_at_paragraphs() -> None:
    assert split_sentences("Dr. Ada came. She saw it\nand left.\n\n  Then. ") == [
        "Dr. Ada came.",
        "She saw it",
        "and left.",
        "Then.",
    ]
