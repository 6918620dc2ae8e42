"""What cannot be right in a file, and how it is told."""

import gzip
import json
import re

import pytest

from data_shards.annotated.json_objects import read_items
from data_shards.annotated.read import read_annotated
from data_shards.errors import UserError
from tests.unit.data_shards.annotated.items import DOCRED, DYGIE, LISTS, OBJECTS, SPE, changed, saved

BAD_ITEMS = {
    "end beyond": (changed(OBJECTS, entities=[{"type": "X", "start": 4, "end": 7}]), "words 4 up to.*words 0 to 5"),
    "empty span": (
        changed(OBJECTS, entities=[{"type": "X", "start": 4, "end": 4}]),
        "begins at word 4 and ends at 4",
    ),
    "list end beyond": (changed(LISTS, entities=[[5, 7, "X"]]), "words 5 up to"),
    "negative": (changed(LISTS, entities=[[-1, 2, "X"]]), r"entities\[0\]\[0\] is -1: expected 0 or more"),
    "word for a number": (
        changed(OBJECTS, entities=[{"type": "X", "start": "0", "end": 1}]),
        r"entities\[0\]\.start",
    ),
    "true for number": (
        changed(LISTS, entities=[[True, 2, "X"]]),
        r"entities\[0\]\[0\] is true: expected a whole number",
    ),
    "no type": (changed(OBJECTS, entities=[{"start": 0, "end": 1}]), r"no field 'entities\[0\]\.type'"),
    "short list": (changed(LISTS, entities=[[0, 2]]), r"no field 'entities\[0\]\[2\]'"),
    "number of no entity": (changed(OBJECTS, relations=[{"type": "r", "head": 0, "tail": 2}]), "has 2 entities"),
    "tokens as text": (changed(OBJECTS, tokens="Ada Byron"), 'tokens is "Ada Byron": expected a list'),
    "token that is no text": (changed(OBJECTS, tokens=["a", 1]), r"tokens\[1\] is 1: expected a text in quotes"),
    "half a character": (changed(OBJECTS, tokens=["\ud800"]), r"tokens\[0\] has half of a surrogate pair"),
    "half a character in a name": (changed(OBJECTS, document="\ud800"), "document has half of a surrogate pair"),
    "dygie, offsets of the sentence": (changed(DYGIE, ner=[[], [[0, 1, "X"]]]), "sentence 1: .*is words 2 to 7"),
    "dygie, end beyond": (changed(DYGIE, ner=[[], [[6, 8, "X"]]]), "words 6 to 8"),
    "dygie, lists missing": (changed(DYGIE, ner=[[]]), "1 list in 'ner' for 2 sentences"),
    "dygie, relation beyond": (changed(DYGIE, relations=[[], [[2, 3, 6, 8, "r"]]]), "document has words 0 to 7"),
    "spe, wrong text": (
        changed(SPE, entityMentions=[{"emId": "a", "text": "London", "offset": [3, 4], "label": "X"}]),
        r"says 'London', but its words \[3, 4\] are 'in'",
    ),
    "spe, same id": (
        changed(SPE, entityMentions=[SPE["entityMentions"][0]] * 2),
        "two entity mentions with emId 'T1'",
    ),
    "spe, no words": (changed(SPE, sentText=None), "neither 'sentText' nor 'tokens'"),
    "misspelt, optional": (
        changed(OBJECTS, relations=None, relation=[]),
        r"unknown field 'relation', did you mean 'relations'\? \(format unified\)$",
    ),
    "misspelt, required": (
        changed(OBJECTS, entities=None, entites=[]),
        "unknown field 'entites', did you mean 'entities'",
    ),
    "misspelt, inside": (
        changed(OBJECTS, relations=[{"type": "r", "haed": 0, "tail": 1}]),
        r"relations\[0\]: unknown field 'haed', did you mean 'head'",
    ),
    "missing": (changed(OBJECTS, entities=None), r"no field 'entities' \(format unified\)$"),  # no doubt of the format
    "text of other words": (
        changed(OBJECTS, entities=[{"type": "X", "start": 0, "end": 1, "text": "Ada Byron"}]),
        r"entity 0 says 'Ada Byron', but its words \[0, 1\] are 'Ada'",
    ),
    "relation with itself": (
        changed(OBJECTS, relations=[{"type": "r", "head": 1, "tail": 1}]),
        "relation 'r' of 'London' .* with itself",
    ),
    "relation with itself, list": (changed(LISTS, relations=[[0, 2, 0, 2, "r"]]), "of 'Ada Byron' .* with itself"),
    "dygie, relation with itself": (changed(DYGIE, relations=[[], [[2, 3, 2, 3, "r"]]]), "with itself"),
    "docred, relation with itself": (changed(DOCRED, labels=[{"h": 0, "t": 0, "r": "r"}]), "entity 0 with itself"),
    "docred, sentence": (
        changed(DOCRED, vertexSet=[[{"name": "Ada", "sent_id": 2, "pos": [0, 1], "type": "X"}]]),
        "'Ada' in sentence 2, but the document has 2",
    ),
    "docred, words": (
        changed(DOCRED, vertexSet=[[{"sent_id": 0, "pos": [1, 3], "type": "X"}]]),
        "sentence 0: entity of type 'X' on words 1 up to, not including, 3",
    ),
    "docred, empty": (
        changed(DOCRED, vertexSet=[[{"sent_id": 0, "pos": [1, 1], "type": "X"}]]),
        "begins at word 1 and ends at 1, which leaves it empty: ends are exclusive",
    ),
    "docred, end before begin": (
        changed(DOCRED, vertexSet=[[{"sent_id": 0, "pos": [2, 1], "type": "X"}]]),
        "ends before word 2, where it begins: correct the offsets",
    ),
    "docred, entity": (changed(DOCRED, labels=[{"h": 0, "t": 2, "r": "r"}]), "'vertexSet' has 2 entities"),
}


@pytest.mark.parametrize(("item", "error"), BAD_ITEMS.values(), ids=BAD_ITEMS)
@pytest.mark.parametrize("layout", ["lines", "list"])
def test_what_cannot_be_right_is_an_error_that_says_where(tmp_path, item, error, layout):
    formats = (good for good in (DOCRED, DYGIE, SPE) if good.keys() & item.keys() - {"relations", "tokens"})
    good = next(formats, OBJECTS)
    path = tmp_path / "data.json"
    path.write_text(json.dumps([good, item]) if layout == "list" else f"{json.dumps(good)}\n\n{json.dumps(item)}")
    place = rf"data\.json{': item 2' if layout == 'list' else ':3'}"
    with pytest.raises(UserError, match=f"{place}.*{error}"):
        read_annotated(path)


BAD_FILES = {
    "empty": (b" \n", "is empty"),
    "empty list": (b"[]", "empty list"),
    "no json": (b'{"tokens": [], "entities": []}\n{"tokens"\n', "data:2: invalid JSON: .* column 10: fix it"),
    "no json in a list": (b'[{"tokens": [], "entities": []},\n{"tokens"]', r"data: line 2, column 10: .*\(not JSON\)"),
    "no object": (b'[{"tokens": [], "entities": []}, 3]', "item 2: expected an object with fields, found 3"),
    "no object in a line": (
        b'{"tokens": [], "entities": []}\n"x"',
        'data:2: expected an object with fields, found "x"',
    ),
    "no format": (b'{"text": "x"}', "data:1: no known format, its fields are: text; .*--format"),
    "not utf-8": (b'{"tokens":\n\xff', "data: line 2: invalid UTF-8"),
    "damaged or truncated": (gzip.compress(b"x" * 99)[:-9], "damaged or truncated"),
    "nested too deep": (b"[" * 100_000, "data: line 1, column 2: nested too deeply"),
}


@pytest.mark.parametrize(("content", "error"), BAD_FILES.values(), ids=BAD_FILES)
def test_files_that_hold_no_sentences(tmp_path, content, error):
    (tmp_path / "data").write_bytes(content)
    with pytest.raises(UserError, match=error):
        read_annotated(tmp_path / "data")


@pytest.mark.parametrize(
    ("item", "place"),
    [
        ({"id": "\ud83d"}, "id"),
        ({"a": [{"b": "x"}, {"b": "x\udc00"}]}, r"a\[1\]\.b"),
        ({"a": {"\ud83d": 1}}, "the name of a field"),
    ],
)
@pytest.mark.parametrize("layout", ["lines", "list"])
def test_half_of_a_surrogate_pair_is_refused_wherever_it_stands(tmp_path, item, place, layout):
    good = {"id": "\U0001f600 \u00e9"}
    path = tmp_path / "data.json"
    path.write_text(json.dumps([good, item]) if layout == "list" else f"{json.dumps(good)}\n{json.dumps(item)}")
    items = read_items(path)
    assert next(items).value == good
    where = r"data\.json: item 2" if layout == "list" else r"data\.json:2"
    with pytest.raises(UserError, match=rf"{where}: {place} has half of a surrogate pair, which is no text: fix it"):
        next(items)


OTHER_PROGRAMS = {
    "predictions for Label Studio": {"id": 1, "data": {"text": "Ada"}, "predictions": []},
    "Doccano before": {"id": 1, "data": "Ada", "label": [[0, 3, "P"]]},
    "INCEpTION": {"%TYPES": {}, "%FEATURE_STRUCTURES": []},
    "PubAnnotation": {"text": "Ada", "denotations": []},
    "spaCy": {"text": "Ada", "ents": [], "tokens": [{"id": 0, "start": 0, "end": 3}]},
    "TACRED": {"token": ["Ada"], "relation": "no_relation", "subj_start": 0},
    "a tagging data set": {"tokens": ["Ada"], "ner_tags": [1]},
}


@pytest.mark.parametrize(("program", "item"), OTHER_PROGRAMS.items(), ids=OTHER_PROGRAMS)
def test_files_of_other_programs_are_named(tmp_path, program, item):
    with pytest.raises(UserError, match=rf"a\.jsonl:1: this looks like {re.escape(program)}.*, which is not read: "):
        read_annotated(saved(tmp_path / "a.jsonl", item))


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_annotated(tmp_path / "missing.json")
    with pytest.raises(UserError, match="is a folder: name the files in it"):
        read_annotated(tmp_path)


def test_a_misspelt_first_item_is_told(tmp_path):
    item = changed(OBJECTS, entities=None, entites=[])
    with pytest.raises(UserError, match=r"a\.jsonl:1: unknown field 'entites', did you mean 'entities'"):
        read_annotated(saved(tmp_path / "a.jsonl", item))


def test_a_format_named_wrongly_says_so(tmp_path):
    with pytest.raises(UserError, match="no field 'sentences' \\(format dygie; --format names another"):
        read_annotated(saved(tmp_path / "a.jsonl", OBJECTS), "dygie")


def test_names_of_relations_must_be_names(tmp_path):
    (tmp_path / "rel_info.json").write_text("[]")
    with pytest.raises(UserError, match=r"rel_info\.json: expected an object"):
        read_annotated(saved(tmp_path / "a.json", DOCRED))
