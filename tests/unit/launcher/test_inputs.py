"""Every command and every form of input: the same readers, and the right command named where one does not fit."""

import bz2
import csv
import gzip
import io
import json
import lzma
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_shards.annotated.document import split_documents
from data_shards.annotated.read import read_annotated
from data_shards.errors import UserError
from data_shards.pipeline.build import _gold_types
from data_shards.pipeline.corpus import parse_annotated, read_units, resolve_sources
from launcher import predict_input, shards
from launcher.predict_corpus.bad_lines import BadLines
from launcher.recipe_arguments import RECIPES
from spe_dist.finetuning.data import _read
from spe_dist.recipe import read_values
from spe_dist.tasks import finetuning_config

SENTENCES = ["Ada lives in Oz .", "Bo & Cy work ."]
WORDS = [sentence.split() for sentence in SENTENCES]
UNIFIED = [
    {"tokens": WORDS[0], "entities": [[0, 1, "P"]], "relations": []},
    {"tokens": WORDS[1], "entities": [{"type": "P", "start": 2, "end": 3}]},
]
DYGIE = {"doc_key": "d", "sentences": WORDS, "ner": [[[0, 0, "P"]], [[7, 7, "P"]]], "relations": [[], []]}
DOCRED = {
    "title": "d",
    "sents": WORDS,
    "vertexSet": [[{"sent_id": 0, "pos": [0, 1], "type": "P"}], [{"sent_id": 1, "pos": [2, 3], "type": "P"}]],
}
SPE = [
    {"sentText": sentence, "articleId": 7, "entityMentions": [{"emId": "a", "offset": place, "label": "P"}]}
    for sentence, place in zip(SENTENCES, ([0, 1], [2, 3]), strict=True)
]
CHARACTERS = [
    {"id": number, "text": sentence, "entities": [{"type": "P", "start": start, "end": start + len(name)}]}
    for number, (sentence, start, name) in enumerate(zip(SENTENCES, (0, 5), ("Ada", "Cy"), strict=True))
]
LABEL_STUDIO = [
    {"data": {"text": one["text"]}, "annotations": [{"result": [
        {"type": "labels", "value": {"start": found["start"], "end": found["end"], "labels": ["P"]}}
        for found in one["entities"]]}]}
    for one in CHARACTERS
]  # fmt: skip
GLINER = [{"tokenized_text": words, "ner": [[place, place, "P"]]} for words, place in zip(WORDS, (0, 2), strict=True)]
ARTICLES = [
    {"id": str(n), "url": f"https://en.wikipedia.org/wiki?curid={n}", "title": f"T{n}", "text": f"T{n}\n{escaped}"}
    for n, escaped in enumerate(sentence.replace("&", "&amp;") for sentence in SENTENCES)
]
BLOCKS = "".join(
    f'<doc id="{a["id"]}" url="{a["url"]}" title="{a["title"]}">\n{a["text"]}\n\n</doc>\n' for a in ARTICLES
)
COLUMNS = "Ada N B-P\nlives V O\nin I O\nOz N O\n. . O\n\nBo N O\n& C O\nCy N B-P\nwork V O\n. . O\n"
TABLE = "sentence,word,tag\n" + "".join(
    f"{number},{row.split()[0]},{row.split()[-1]}\n"
    for number, rows in enumerate(COLUMNS.split("\n\n"))
    for row in rows.splitlines()
)


def lines(items: list[dict]) -> str:
    return "".join(json.dumps(item) + "\n" for item in items)


def indented(items: list[dict]) -> str:
    return "\n".join(json.dumps(item, indent=2) for item in items)


SPOOL = [Path("unused")]  # where a build copies standard input
FORMS = {  # name of the file, content
    "text": ("a.txt", "\n".join(SENTENCES)),
    "JSON lines": ("a.jsonl", lines([{"id": 1, "text": sentence} for sentence in SENTENCES])),
    "JSON list": ("a.json", json.dumps([{"text": sentence} for sentence in SENTENCES])),
    "WikiExtractor": ("wiki_00", BLOCKS),
    "WikiExtractor in one file": ("wiki.txt", BLOCKS + BLOCKS.replace("Oz", "Rome")),
    "WikiExtractor, JSON": ("wiki.json", lines(ARTICLES)),
    "Parquet": ("a.parquet", SENTENCES),
    "columns": ("a.conll", COLUMNS),
    "columns in text": ("train.txt", COLUMNS),
    "table": ("a.csv", TABLE),
    "CSV": ("t.csv", f'id,text\n1,"{SENTENCES[0]}"\n2,{SENTENCES[1]}\n'),
    "TSV": ("t.tsv", f"text\tid\n{SENTENCES[0]}\t1\n{SENTENCES[1]}\t2\n"),
    "unified lines": ("b.jsonl", lines(UNIFIED)),
    "unified list": ("b.json", json.dumps(UNIFIED)),
    "unified, indented list": ("b.json", json.dumps(UNIFIED, indent=2)),
    "unified, indented objects": ("b.json", indented(UNIFIED)),
    "characters": ("c.jsonl", lines(CHARACTERS)),
    "DyGIE": ("d.json", lines([DYGIE])),
    "DyGIE, indented": ("d.json", indented([DYGIE])),
    "DocRED": ("e.json", json.dumps([DOCRED])),
    "SPE program": ("f.json", lines(SPE)),
    "Label Studio": ("g.json", json.dumps(LABEL_STUDIO)),
    "GLiNER": ("h.json", json.dumps(GLINER)),
}
TO_GOLD = "--gold-entities takes its words"
NO_ENTITIES = "has no entities: give JSON .* --ner"
TO_PREDICT = "spe predict finds"
BAD_LINE = "no fields of annotated data|no entities in a"
REFUSED = {  # what a command says to a form, where it does not read it; by what it takes
    "texts": {
        **dict.fromkeys([form for form in FORMS if form.startswith(("unified", "D", "SPE", "La", "GLi"))], TO_GOLD),
    },
    "entities": {
        **dict.fromkeys([form for form in FORMS if form.startswith("WikiExtractor")], NO_ENTITIES),
        **dict.fromkeys(["text", "Parquet", "CSV", "TSV"], NO_ENTITIES),
        **dict.fromkeys(["JSON lines", "JSON list"], BAD_LINE),
    },
    "annotated": {
        **dict.fromkeys([form for form in FORMS if form.startswith("WikiExtractor")], TO_PREDICT),
        **dict.fromkeys(["text", "Parquet", "CSV", "TSV"], TO_PREDICT),
        **dict.fromkeys(["JSON lines", "JSON list"], "no known format, its fields are: (id, )?text"),
    },
    "anything": {},
}


def train_vocab(name: str) -> list[str]:
    return list(shards._texts(shards.TrainVocab((name,), 10, Path("unused"))))


def build_with_entities(name: str) -> list[str]:
    (source,) = resolve_sources([name], None, SPOOL[0])
    (unit,) = read_units(source, 0, text_field="text")
    documents, bad_lines = parse_annotated(unit, source.format, "text") if _gold_types((source,), "text") else ([], [])
    assert not bad_lines and [one.type for document in documents for one in document.mentions] == ["P", "P"]
    return split_documents(documents, "en").texts


def data_check(name: str) -> list[str]:
    sentences, _ = read_annotated(Path(name))
    assert [entity.word_start for sentence in sentences for entity in sentence.entities] == [0, 2]
    return [" ".join(sentence.words) for sentence in sentences]


def finetune(name: str) -> list[str]:
    task = finetuning_config(read_values(RECIPES / "finetune_cpu.yaml"), source="test").build_task()
    return [" ".join(sentence.words) for sentence in _read(task, name, "en")]


def predict(name: str) -> list[str]:
    items = predict_input.read_items([name])
    return [item.text if isinstance(item.text, str) else " ".join(item.text) for item in items]


Command = Callable[[str], list[str]]
COMMANDS: dict[Command, str] = {
    train_vocab: "texts",
    build_with_entities: "entities",
    data_check: "annotated",
    finetune: "annotated",
    predict: "anything",
}


def write(folder: Path, form: str, ending: str = "") -> Path:
    name, content = FORMS[form]
    path = folder / (name + ending)
    if name.endswith(".parquet"):
        pq.write_table(pa.table({"text": content}), path)
    else:
        path.write_bytes({"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress}[ending](content.encode()))
    return path


def expected(form: str) -> list[str]:
    if form == "WikiExtractor in one file":
        return [*SENTENCES, SENTENCES[0].replace("Oz", "Rome"), SENTENCES[1]]
    return SENTENCES


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
@pytest.mark.parametrize("form", FORMS)
def test_a_command_reads_a_form_or_names_the_right_command(tmp_path: Path, command: Command, form: str) -> None:
    path = write(tmp_path, form)
    refusal = REFUSED[COMMANDS[command]].get(form)
    if refusal is None:
        assert [text.strip() for text in command(str(path))] == expected(form)
        return
    with pytest.raises(UserError, match=refusal) as caught:
        command(str(path))
    assert "\n" not in str(caught.value)


READ = [
    (command, form) for command, takes in COMMANDS.items() for form in FORMS
    if form not in REFUSED[takes] and form != "Parquet"
]  # fmt: skip


@pytest.mark.parametrize("ending", [".gz", ".bz2"])
def test_compression_changes_nothing(tmp_path: Path, ending: str) -> None:
    for command, form in READ:
        path = write(tmp_path, form, ending)
        assert [text.strip() for text in command(str(path))] == expected(form), (command, form)
        named_otherwise = path.rename(path.with_suffix(""))  # told by its content
        assert [text.strip() for text in command(str(named_otherwise))] == expected(form), (command, form)


@pytest.mark.parametrize(
    ("before", "compress"),
    [(b"", gzip.compress), (b"\xef\xbb\xbf", bytes), (b"\n \n", bytes), (b"\xef\xbb\xbf\r\n\n", bz2.compress)],
)
def test_standard_input_is_told_by_its_first_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, before: bytes, compress: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setitem(globals(), "SPOOL", [tmp_path])
    for command, form in READ:
        if form in ("table", "CSV", "TSV") or command is finetune:  # told by its ending alone; read more than once
            continue
        content = compress(before + FORMS[form][1].encode())
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        found = [text.strip() for text in command("-")]
        assert [text for text in found if text] == expected(form), (command, form)
    with pytest.raises(UserError, match="name a file"):
        finetune("-")


def test_a_folder_is_read_file_by_file_where_that_makes_sense(tmp_path: Path) -> None:
    forms = ("text", "JSON lines", "WikiExtractor", "Parquet", "CSV")
    for form in forms:
        write(tmp_path, form)
    assert [text.strip() for text in train_vocab(str(tmp_path))] == SENTENCES * len(forms)
    assert [text.strip() for text in predict(str(tmp_path))] == SENTENCES * len(forms)
    for command in (data_check, finetune):
        with pytest.raises(UserError, match="is a folder: name the files in it"):
            command(str(tmp_path))
    for command in COMMANDS:
        with pytest.raises(UserError, match="no such file"):
            command(str(tmp_path / "missing.txt"))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("Ada lives.".encode("utf-16"), "is UTF-16 text: convert it to UTF-8"),
        (b"PK\x03\x04", "is a ZIP archive: unpack it"),
        (lzma.compress(b"Ada lives."), "is compressed by xz, only .gz and .bz2 are read"),
        (b"\x28\xb5\x2f\xfd", "is compressed by zstd"),
        (b"a/b" + bytes(254) + b"ustar", "is a tar archive"),
    ],
)
def test_what_no_command_reads_is_named(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "a.jsonl"
    for data in (content, gzip.compress(content)):
        path.write_bytes(data)
        for command in COMMANDS:
            with pytest.raises(UserError, match=f"a.jsonl {re.escape(what)}"):
                command(str(path))


def test_prediction_keeps_what_names_a_text(tmp_path: Path) -> None:
    def fields(form: str) -> list[dict]:
        path = write(tmp_path, form)
        return [item.fields for item in predict_input.read_items([str(path)])]

    for form in ("DyGIE", "DocRED"):
        assert fields(form) == [{"tokens": words, "document": "d", "number": n} for n, words in enumerate(WORDS)]
    assert fields("SPE program") == [{"tokens": words, "document": "7", "articleId": 7} for words in WORDS]
    assert fields("unified list") == UNIFIED and fields("characters") == CHARACTERS
    assert fields("columns") == [{"tokens": words} for words in WORDS]
    for form in ("WikiExtractor", "WikiExtractor, JSON"):
        assert fields(form) == [
            article | {"text": sentence} for article, sentence in zip(ARTICLES, SENTENCES, strict=True)
        ]
    path = tmp_path / "ids.parquet"
    pq.write_table(pa.table({"id": ["a", "b"], "text": SENTENCES, "n": [1, None], "odd": [[1], [2]]}), path)
    items = predict_input.read_items([str(path)])
    assert [(item.fields["id"], item.text, item.fields["n"]) for item in items] == [
        ("a", SENTENCES[0], 1),
        ("b", SENTENCES[1], None),
    ]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_tables_of_texts(tmp_path: Path, separator: str) -> None:
    """What Python's own writer makes of texts with line ends, quotation marks and separators, and of a long one."""
    path, texts = tmp_path / "a.csv", ["a\r\nb", 'say "O"', "x; y, z\tw", "🎉", "", "long " * 50_000]
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerows([["id", "text", "tag, or none"], *([n, text, "O"] for n, text in enumerate(texts))])
    rows = list(predict_input.read_items([str(path)]))
    assert [row.text for row in rows] == texts
    assert rows[1].fields == {"id": "1", "text": texts[1], "tag, or none": "O"}

    bad_lines = BadLines(2)
    path.write_bytes(b"text,id\na,1\nb, c,2\n\xff,3\n\nd,4\n\n")
    rows = list(predict_input.read_items([str(path)], predict_input.Reading(bad_lines=bad_lines)))
    assert [row.text for row in rows] == ["a", "d"]
    assert [text.rpartition("a.csv, ")[2] for text in bad_lines.examples] == [
        "row 2: 3 cells, where the header has 2: quote a cell that holds the separator",
        "row 3: invalid UTF-8",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("id,body\n1,a\n", "no column is named 'text', the header has id, body: name one with --text-field"),
        ("text,text\n1,a\n", "2 columns are named 'text'"),
        ("text,id,id,,\na,1,2,,\n", "2 columns are named 'id': give each column its own name"),
        ('text,id\n"a,1\nb,2\n', "no table .*: check for an unclosed quotation mark"),
        ("text,id\na,1\nb\rc,2\n", r"no table \(a carriage return .* in line 3\): quote that cell, and end rows with"),
        ("text,id\ra,1\rb,2\r", r"no table \(a carriage return .* in its header\): end rows with line feeds"),
    ],
)
def test_what_is_no_table_of_texts_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "a.csv").write_bytes(content.encode())
    with pytest.raises(UserError, match=rf"a\.csv: {said}"):
        predict(str(tmp_path / "a.csv"))


def test_a_copy_of_standard_input_is_called_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(globals(), "SPOOL", [tmp_path])
    for command in COMMANDS:
        if command is not finetune:
            cut_off = gzip.compress(lines(CHARACTERS).encode())[:-9]
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(cut_off)))
            with pytest.raises(UserError, match=r"^standard input: damaged or truncated"):
                command("-")
    assert not list(Path().glob(".*.tmp"))
