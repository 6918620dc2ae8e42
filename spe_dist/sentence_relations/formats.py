"""Files of sentences with two entities: SemEval-2010 task 8 (TXT), TACRED (JSON) and CP's format (JSON lines).

SemEval  a line `8001⟨tab⟩"The most common <e1>audits</e1> were about <e2>waste</e2>."`, a line with the relation, a
         comment, an empty line; e1 is the head
TACRED   {id, token, subj_start, subj_end, obj_start, obj_end (both ends inclusive), relation}; the subject is the head
CP       {token or tokens, h: {pos: [start, end)}, t: {…}, relation}; what `rel2id.json` beside the file does not name
         is refused
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from data_shards.annotated.json_objects import Item, items_of
from data_shards.errors import UserError
from data_shards.input.stream import InputStream, open_input
from data_shards.text.word_rules import WordRules
from spe_dist.sentence_relations.marked_sentence import MarkedSentence, WordSpan

RELATION_NUMBERS = "rel2id.json"
_SENTENCE = re.compile(r'(\d+)\t\s*"?(.*?)"?\s*')
_TAG = re.compile(r"<(/?)(e[12])>")
_RELATION = re.compile(r"[\w-]+(\(e[12],e[12]\))?")
_HELP = "SemEval-2010 task 8, TACRED's JSON and JSON lines with token, h, t and relation are read"


def read_sentences(path: Path, *, language: str, labelled: bool = True) -> Iterator[MarkedSentence]:
    """The sentences of a file, one at a time; their relations are labels as the file has them.

    Args:
        path: the file; `-` is standard input. Its first line tells the format.
        language: whose rules cut raw text into words (a spaCy language code).
        labelled: whether every sentence must have a label.

    Raises:
        UserError: it cannot be read, or something in it cannot be right; names line or item.
    """
    with open_input(path) as stream:
        index = 0
        while (first := stream.look(index)) and not first.strip():
            index += 1
        if not first:
            raise UserError(f"{stream.name} is empty: there is nothing to read")
        if first.lstrip()[:1] in (b"{", b"["):
            yield from _of_json(stream, labelled, _known_relations(Path(path)))
        elif _SENTENCE.fullmatch(first.decode(errors="replace")):
            yield from _of_semeval(stream, WordRules(language), labelled)
        else:
            raise UserError(f"{stream.name} begins with {first.decode(errors='replace').strip()[:40]!r}: {_HELP}")


def parse_tagged(text: str, language: str) -> MarkedSentence:
    """A sentence with <e1>…</e1> and <e2>…</e2>.

    Raises:
        UserError: it lacks one of them.
    """
    return _parse_tags("1", text, WordRules(language), "--text")


def _of_semeval(stream: InputStream, rules: WordRules, labelled: bool) -> Iterator[MarkedSentence]:
    open_sentence: tuple[str, MarkedSentence] | None = None  # where it stands, and itself, still without a relation
    for number, raw in enumerate(stream.lines(), start=1):
        where = f"{stream.name}:{number}"
        try:
            line = raw.decode().strip("\r\n")
        except UnicodeDecodeError as error:
            raise UserError(f"{where}: not UTF-8: convert the file, for example with iconv -t UTF-8") from error
        if found := _SENTENCE.fullmatch(line):
            yield from _unlabelled(open_sentence, labelled)
            open_sentence = where, _parse_tags(found[1], found[2], rules, where)
        elif open_sentence and _RELATION.fullmatch(line.strip()):
            yield open_sentence[1]._replace(relation=line.strip())
            open_sentence = None
        elif line.strip() and not line.startswith("Comment"):
            raise UserError(
                f"{where}: {line.strip()[:40]!r} is no sentence of SemEval-2010 task 8 (number, tab, text) and no "
                "relation below one: fix or remove it"
            )
    yield from _unlabelled(open_sentence, labelled)


def _unlabelled(sentence: tuple[str, MarkedSentence] | None, labelled: bool) -> Iterator[MarkedSentence]:
    if sentence is not None:
        if labelled:
            raise UserError(
                f"{sentence[0]}: sentence {sentence[1].id} has no relation below it: name the file with relations "
                "(TRAIN_FILE.TXT, TEST_FILE_FULL.TXT)"
            )
        yield sentence[1]


def _parse_tags(name: str, text: str, rules: WordRules, where: str) -> MarkedSentence:
    words: list[str] = []
    places: dict[str, list[int]] = {"e1": [], "e2": []}
    end = 0
    for tag in _TAG.finditer(text):
        words += _words_of(text[end : tag.start()], rules)
        if len(places[tag[2]]) != (tag[1] == "/"):
            places[tag[2]] = []
            break
        places[tag[2]].append(len(words))
        end = tag.end()
    words += _words_of(text[end:], rules)
    for entity, place in places.items():
        if len(place) != 2 or place[0] == place[1]:
            raise UserError(f"{where}: sentence {name} needs one <{entity}>…</{entity}> with a word in it: fix it")
    (a, b), (c, d) = places.values()
    return MarkedSentence(name, tuple(words), (a, b), (c, d))


def _words_of(text: str, rules: WordRules) -> list[str]:
    return [text[start:end] for start, end in rules.locate_words(text)]


def _of_json(stream: InputStream, labelled: bool, known: Collection[str] | None) -> Iterator[MarkedSentence]:
    for number, item in enumerate(items_of(stream, _HELP)):
        words = _words_field(item)
        if "subj_start" in item.value or "obj_start" in item.value:
            head, tail = (_span(item, words, _index(item, f"{p}_start"), _index(item, f"{p}_end") + 1, p)
                          for p in ("subj", "obj"))  # fmt: skip
        else:
            head, tail = (_position(item, words, name) for name in ("h", "t"))
        relation = item.value.get("relation")
        if relation is None and labelled:
            raise UserError(f"{item.where}: no field 'relation': fine-tuning needs a label of every sentence")
        if relation is not None and (not isinstance(relation, str) or not relation.strip()):
            raise UserError(f"{item.where}: relation is {json.dumps(relation)[:40]}: expected a text in quotes")
        if known is not None and relation is not None and relation not in known:
            raise UserError(
                f"{item.where}: relation {relation!r} is not in {RELATION_NUMBERS} beside the file: fix one"
            )
        yield MarkedSentence(str(item.value.get("id", number)), words, head, tail, relation)


def _words_field(item: Item) -> tuple[str, ...]:
    words = item.value.get("token", item.value.get("tokens"))
    if words is None:
        raise UserError(f"{item.where}: no field 'token' (or 'tokens') with the words: {_HELP}")
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise UserError(f"{item.where}: token is not a list of words: fix it")
    return tuple(words)


def _position(item: Item, words: tuple[str, ...], name: str) -> WordSpan:
    entity = item.value.get(name)
    if not isinstance(entity, dict) or "pos" not in entity:
        raise UserError(f"{item.where}: no field '{name}.pos' with the words of an entity: {_HELP}")
    pos = entity["pos"]
    if not isinstance(pos, list) or len(pos) != 2 or not all(type(place) is int for place in pos):
        raise UserError(f"{item.where}: {name}.pos is {json.dumps(pos)[:40]}: expected [first word, last word + 1]")
    return _span(item, words, pos[0], pos[1], f"{name}.pos")


def _index(item: Item, name: str) -> int:
    value: Any = item.value.get(name)
    if type(value) is not int:
        what = f"no field {name!r}" if value is None else f"{name} is {json.dumps(value)[:40]}"
        raise UserError(f"{item.where}: {what}: expected the number of a word, counted from 0")
    return value


def _span(item: Item, words: tuple[str, ...], start: int, end: int, name: str) -> WordSpan:
    if not 0 <= start < end <= len(words):
        raise UserError(
            f"{item.where}: {name} names words {start} to {end - 1} of {len(words)}, counted from 0: fix it"
        )
    return start, end


def _known_relations(path: Path) -> Collection[str] | None:
    file = path.parent / RELATION_NUMBERS
    if not file.is_file():
        return None
    try:
        numbers = json.loads(file.read_bytes())
        if not isinstance(numbers, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not an object of relations and numbers ({error}): fix or remove it") from error
    return numbers.keys()
