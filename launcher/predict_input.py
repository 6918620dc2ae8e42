"""What `spe predict` reads: all that other commands read, text and annotated data; of the latter the texts alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

from data_shards.annotated.label_studio import text_of_task
from data_shards.annotated.read import kind_of_no_file
from data_shards.errors import UserError
from data_shards.input.bio import parse_sentence
from data_shards.input.csv_rows import csv_row
from data_shards.input.format import TextFormat, format_of, name_fields
from data_shards.input.json_lines import parse_object, reason_of
from data_shards.input.parquet import count_rows, read_objects, text_of_row
from data_shards.input.stream import STANDARD_INPUT, InputStream, check_is_file, open_input
from data_shards.input.wiki_extractor import fields_of_document
from data_shards.pipeline.corpus import files_of_folder, read_documents
from launcher.predict_corpus.bad_lines import BadLines
from launcher.predict_corpus.progress import Progress

# Of documents that are given as sentences of words: the field of these, and the one that names the document.
_DOCUMENTS = (("sentences", "doc_key"), ("sents", "title"))
_UNITS: dict[TextFormat, str] = {"json": "item", "parquet": "row", "csv": "row"}


@dataclass(frozen=True)
class Item:
    """A text to read, and what else is known of it.

    Args:
        text: raw, or words.
        fields: fields of the object that it came from, the text among them; none if it came from a line of text.
        is_annotated: it is a sentence of annotated data, whose annotation is no longer among the fields.
    """

    text: str | list[str]
    fields: dict[str, Any] = field(default_factory=dict)
    is_annotated: bool = False


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Args:
        input_format: of all files; if not given, first lines and endings tell, and what they do not tell is text.
        text_field: field of a JSON object, or column of a table, that holds the text.
        bad_lines: counts malformed ones.
        progress: is told how many bytes of the files have been read.
    """

    input_format: TextFormat | None = None
    text_field: str = "text"
    bad_lines: BadLines = field(default_factory=BadLines)
    progress: Progress = field(default_factory=Progress)


def read_items(names: Sequence[str], reading: Reading | None = None) -> Iterator[Item]:
    """The texts of some files, one after another.

    Args:
        names: names of files or folders, compressed (`.gz`, `.bz2`) or not; `-` is standard input.
        reading: how.

    Raises:
        UserError: a file cannot be read, or too much in it is malformed; it says which.
    """
    reading = reading or Reading()
    files = [file for name in names for file in _files_of(name)]
    sizes = [0 if file == STANDARD_INPUT else Path(file).stat().st_size for file in files]
    reading.progress.size = 0 if STANDARD_INPUT in files else sum(sizes)
    before = accumulate(sizes, initial=0)
    return chain.from_iterable(_items_of(file, reading, read) for file, read in zip(files, before, strict=False))


def _files_of(name: str) -> list[str]:
    if kind := kind_of_no_file(Path(name)):
        raise UserError(f"{name} is {kind}: spe data convert {name} texts.jsonl --to characters makes texts of it")
    if name != STANDARD_INPUT and Path(name).is_dir():
        return [str(file) for file in files_of_folder(Path(name), name)]
    if name != STANDARD_INPUT:
        check_is_file(name)
    return [name]


def _items_of(name: str, reading: Reading, read_before: int) -> Iterator[Item]:
    with open_input(name) as stream:
        form = reading.input_format or format_of(stream) or "text"

        def documents() -> Iterator[bytes]:
            for raw, position in located_documents(stream, form, reading.text_field):
                reading.progress.read = read_before + position
                yield raw

        yield from items_of_documents(documents(), stream.name, form, reading.text_field, reading.bad_lines)


def located_documents(stream: InputStream, form: TextFormat, text_field: str) -> Iterator[tuple[bytes, int]]:
    """The documents of an input as they stand there, each with the bytes of the file that are read by then."""
    if form == "parquet" and stream.path is not None:
        size, rows = stream.path.stat().st_size, count_rows(stream.path, text_field)
        for number, raw in enumerate(read_objects(stream.path, text_field), start=1):
            yield raw, size * number // rows
    else:
        for raw in read_documents(stream, form, text_field):
            yield raw, stream.position


def items_of_documents(
    documents: Iterable[bytes], name: str, form: TextFormat, text_field: str, bad_lines: BadLines, number: int = 1
) -> Iterator[Item]:
    """The texts of documents; of an empty line that is no text, nothing.

    Args:
        documents: as they stand in a file of this format.
        name: name of the file, for people.
        form: the format.
        text_field: see `Reading`.
        bad_lines: is told of those that are malformed, and where they stand.
        number: number of the first line.

    Raises:
        UserError: too many are malformed.
    """
    parse = _parser(form, text_field)
    for raw in documents:
        if raw.strip() or form == "text":
            try:
                items = list(parse(raw.decode()))
            except (ValueError, RecursionError) as error:
                place = f"{name}, {_UNITS.get(form, 'line')} {getattr(error, 'line', number)}"
                bad_lines.add(f"{place}: {reason_of(error)}")
            else:
                yield from items
        number += raw.count(b"\n")


def _parser(form: TextFormat, text_field: str) -> Callable[[str], Iterator[Item]]:
    parsers: dict[TextFormat, Callable[[str], Iterator[Item]]] = {
        "text": _item_of_line,
        "jsonl": partial(_items_of_object, text_field=text_field),
        "json": partial(_items_of_object, text_field=text_field),
        "parquet": partial(_item_of_row, text_field=text_field),
        "wikiextractor": partial(_item_of_article, text_field=text_field),
        "bio": _item_of_tagged,
        "csv": partial(_item_of_csv_row, text_field=text_field),
    }
    return parsers[form]


def _item_of_line(line: str) -> Iterator[Item]:
    yield Item(line.rstrip("\r\n"))


def _item_of_row(line: str, text_field: str) -> Iterator[Item]:
    fields = parse_object(line)
    yield Item(text_of_row(json.dumps(fields[text_field])), fields)


def _item_of_csv_row(line: str, text_field: str) -> Iterator[Item]:
    fields = csv_row(line)
    yield Item(fields[text_field], fields)


def _item_of_article(document: str, text_field: str) -> Iterator[Item]:
    fields = fields_of_document(document, text_field)
    fields[text_field] = fields[text_field].strip("\n")
    yield Item(fields[text_field], fields)


def _item_of_tagged(sentence: str) -> Iterator[Item]:
    words = [word for _, word, _ in parse_sentence(sentence)]
    yield Item(words, {"tokens": words}, is_annotated=True)


def _items_of_object(line: str, text_field: str) -> Iterator[Item]:
    fields = parse_object(line)
    if text_field in fields:
        text = fields[text_field]
        if not isinstance(text, str):
            raise ValueError(f"field {text_field!r} is {type(text).__name__}, not a string")
        yield Item(text, fields)
    elif "entityMentions" in fields or ("sentText" in fields and "tokens" not in fields):
        yield _item_of_spe_program(fields)
    elif isinstance(fields.get("data"), dict):
        yield Item(text_of_task(fields["data"]), fields)
    elif "tokenized_text" in fields:
        yield Item(_words(fields["tokenized_text"], "tokenized_text"), fields | {"tokens": fields["tokenized_text"]})
    elif "tokens" in fields:
        yield Item(_words(fields["tokens"], "tokens"), fields)
    else:
        yield from _items_of_document(fields, text_field)


def _item_of_spe_program(fields: dict[str, Any]) -> Item:
    """The words are the tokens or, without these, the text between spaces; the rest of its fields is not ours."""
    words = fields.get("tokens")
    if words is None:
        text = fields.get("sentText")
        if not isinstance(text, str):
            raise ValueError("neither 'sentText' nor 'tokens' holds the words")
        words = text.strip().split(" ") if text.strip() else []
    kept = {str(name): fields[name] for name in ("articleId", "sentId") if name in fields}
    return _sentence(_words(words, "tokens"), fields.get("articleId"), kept)


def _items_of_document(fields: dict[str, Any], text_field: str) -> Iterator[Item]:
    """The sentences of a document of DyGIE or DocRED, each with the name of the document and its number there."""
    for name, title in _DOCUMENTS:
        if name in fields:
            if not isinstance(fields[name], list):
                raise ValueError(f"field {name!r} is {type(fields[name]).__name__}, not a list")
            for number, words in enumerate(fields[name]):
                yield _sentence(_words(words, f"{name}[{number}]"), fields.get(title), {"number": number})
            return
    raise ValueError(
        f"no field {text_field!r} and none with words (tokens, sentences, sents), only {name_fields(fields)}: "
        "name the field of the text with --text-field"
    )


def _sentence(words: list[str], document: object, more: dict[str, Any]) -> Item:
    named = {} if document is None or document == "" else {"document": str(document)}
    return Item(words, {"tokens": words} | named | more, is_annotated=True)


def _words(value: object, name: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise ValueError(f"field {name!r} is not a list of strings")
    return value
