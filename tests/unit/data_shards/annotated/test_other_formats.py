"""Formats of other programs: files laid out as their documentation has them, and random documents there and back."""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation
from data_shards.annotated.document import Document, Fact, Mention
from data_shards.annotated.read import read_annotated, read_documents
from data_shards.annotated.read_report import (
    ENTITIES_ACROSS_SENTENCES,
    NOT_ANNOTATED,
    NOT_FOUND,
    OTHER_ANNOTATIONS,
    OTHER_REGIONS,
    SEVERAL_PLACES,
    SKIPPED,
    UNLABELLED_RELATIONS,
    WITH_ITSELF,
    WITHOUT_ENTITY,
)
from data_shards.annotated.write import between_mentions, format_of_out, write_documents, write_sentences
from data_shards.errors import UserError
from tests.unit.data_shards.annotated.sentences import TYPES, annotated_sentences

EMOJI = "🎉 Ada Byron lives in London.\r\nShe wrote on Zürich's lake."
ADA, LONDON, SHE = EMOJI.index("Ada"), EMOJI.index("London"), EMOJI.index("She")


def files(folder: Path, **contents: str) -> Path:
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name.replace("_", ".")).write_bytes(content.encode())
    return folder


def named(document: Document) -> list[tuple[str, str, int]]:
    """The text, type and entity of each mention."""
    return [
        (document.text[start:end], mention.type, mention.entity)
        for mention, (start, end) in zip(document.mentions, document.characters(), strict=True)
    ]


def region(id: str, text: str, start: int, end: int, *labels: str) -> dict:
    value = {"start": start, "end": end, "text": text[start:end], "labels": list(labels)}
    return {"id": id, "from_name": "label", "to_name": "text", "type": "labels", "origin": "manual", "value": value}


def arrow(head: str, tail: str, direction: str, *labels: str) -> dict:
    return {"from_id": head, "to_id": tail, "type": "relation", "direction": direction, "labels": list(labels)}


def task(text: str, *annotations: dict, **more) -> dict:
    rest = {"drafts": [], "predictions": [], "meta": {}, "inner_id": 1, "total_annotations": 1, "project": 1,
            "cancelled_annotations": 0, "total_predictions": 0, "comment_count": 0, "file_upload": "a.txt",
            "created_at": "2026-01-01T00:00:00Z", "updated_by": 1, "comment_authors": []}  # fmt: skip
    return {"id": 7, "data": {"text": text} | more, "annotations": list(annotations)} | rest


def test_an_export_of_label_studio(tmp_path):
    results = [
        region("a1", EMOJI, ADA, ADA + 9, "Person", "Woman"),
        region("b2", EMOJI, LONDON, LONDON + 6, "Place"),
        {"id": "c3", "from_name": "mood", "to_name": "text", "type": "choices", "value": {"choices": ["good"]}},
        arrow("a1", "b2", "right", "lives in"),
        arrow("a1", "b2", "left", "home of"),
        arrow("a1", "b2", "bi", "knows"),
        arrow("a1", "b2", "right"),
        arrow("a1", "c3", "right", "lives in"),
    ]
    good = {"id": 1, "completed_by": 1, "result": results, "was_cancelled": False, "ground_truth": True,
            "lead_time": 4.2, "prediction": {}, "result_count": 3, "unique_id": "u", "last_action": None, "task": 7,
            "import_id": None, "parent_prediction": None, "parent_annotation": None}  # fmt: skip
    tasks = [
        task(EMOJI, {"result": []}, good, title="first"),
        task("Ada", good | {"was_cancelled": True}),
        task("Ada"),
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks, indent=2))
    (document,), report = read_documents(tmp_path / "export.json")
    assert document.name == "first"
    assert named(document) == [("Ada Byron", "Person", 0), ("Ada Byron", "Woman", 0), ("London", "Place", 1)]
    assert document.facts == (
        Fact(0, 1, "lives in"), Fact(1, 0, "home of"), Fact(0, 1, "knows"), Fact(1, 0, "knows"),
    )  # fmt: skip
    assert report.findings == {
        OTHER_ANNOTATIONS: 1, OTHER_REGIONS: 1, UNLABELLED_RELATIONS: 1, WITHOUT_ENTITY: 1, SKIPPED: 1,
        NOT_ANNOTATED: 1,
    }  # fmt: skip
    assert not report.unread_fields  # what the program keeps for itself
    tasks[0] |= {"drafts": [], "predictions": [{"result": []}], "seen": 1, "rated": 2}
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    _, report = read_documents(tmp_path / "export.json")
    assert report.lines()[-1] == "  fields that are not read: predictions, seen, rated (1 each, first in item 1)"


def test_offsets_of_an_old_label_studio_and_its_short_form(tmp_path):
    old = region("a1", EMOJI, ADA, ADA + 3, "Person")
    old["value"] |= {"start": ADA + 1, "end": ADA + 4}
    (tmp_path / "old.json").write_text(json.dumps([task(EMOJI, {"result": [old]})]))
    with pytest.raises(UserError, match="--offsets utf16"):
        read_documents(tmp_path / "old.json")
    (document,), _ = read_documents(tmp_path / "old.json", offsets="utf16")
    assert named(document) == [("Ada", "Person", 0)]
    short = {"id": 3, "text": EMOJI, "label": [old["value"]], "annotator": 1, "lead_time": 4.1}
    (tmp_path / "min.json").write_text(json.dumps([short]))
    (document,), _ = read_documents(tmp_path / "min.json", offsets="utf16")
    assert named(document) == [("Ada", "Person", 0)] and document.name == "3"


def test_texts_of_label_studio_may_be_in_another_field(tmp_path):
    items = [task("Ada", {"result": [region("a", "Ada", 0, 3, "P")]})]
    items[0]["data"] = {"id": "x", "body": "Ada", "number": 3}
    (tmp_path / "a.json").write_text(json.dumps(items))
    assert [one.text for one in read_documents(tmp_path / "a.json")[0]] == ["Ada"]
    items[0]["data"]["more"] = "which one"
    (tmp_path / "a.json").write_text(json.dumps(items))
    with pytest.raises(UserError, match=r"no field 'data\.text' holds the text; .* id, body, number, more"):
        read_documents(tmp_path / "a.json")


TOKENS = ["Ada", "Byron", "lives", "in", "London"]
ARGUMENTS = [
    {"mention": "Ada Byron", "position": [0, 1], "type": "PER"},
    {"mention": "London", "position": [4, 4], "type": "any word"},
]


@pytest.mark.parametrize(
    ("relations", "expected"),
    [
        (None, ()),
        ([{"head": ARGUMENTS[0], "tail": ARGUMENTS[1], "relation_text": "lives in"}], (Relation(0, 1, "lives in"),)),
        ([[1, 0, "home of"]], (Relation(1, 0, "home of"),)),
    ],
)
def test_items_of_gliner_and_glirel(tmp_path, relations, expected):
    item = {"tokenized_text": TOKENS, "ner": [[0, 1, "PER", "Ada Byron"], [4, 4, "LOC"]]}
    (tmp_path / "a.json").write_text(json.dumps([item if relations is None else item | {"relations": relations}]))
    (sentence,), report = read_annotated(tmp_path / "a.json")
    assert report.format == ("gliner" if relations is None else "glirel")
    assert sentence == AnnotatedSentence(tuple(TOKENS), (Entity(0, 2, "PER"), Entity(4, 5, "LOC")), expected)


def test_triples_of_strings(tmp_path):
    text = "Londoners in London , said Ada of London ; Ada ."
    casrel = {"text": text, "triple_list": [["Ada", "lives in", "London"], ["Bob", "in", "Ada"], ["Ada", "is", "Ada"]]}
    spans = {"subj_char_span": [27, 30], "obj_char_span": [34, 40]}
    tplinker = {
        "id": "t1", "text": text, "entity_list": [{"text": "Ada", "type": "PER", "char_span": [27, 30]}],
        "relation_list": [{"subject": "Ada", "predicate": "lives in", "object": "London"} | spans],
    }  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps([casrel, tplinker]))
    (first, second), report = read_documents(tmp_path / "a.json")
    assert first.mentions == (Mention(27, 30, "entity", 0), Mention(13, 19, "entity", 1))
    assert second.mentions == (Mention(27, 30, "PER", 0), Mention(34, 40, "entity", 1))
    assert first.facts == second.facts == (Fact(0, 1, "lives in"),)
    assert report.findings == {SEVERAL_PLACES: 2, NOT_FOUND: 1, WITHOUT_ENTITY: 1, WITH_ITSELF: 1}


COLUMNS = (
    "-DOCSTART- -X- O\n\nEU NNP S-ORG\nrejects VBZ O\nNew NNP B-LOC\nYork NNP E-LOC\n\n\nU.N. NNP I-ORG\nmet VBD O\n"
)


def test_columns_of_conll(tmp_path):
    (tmp_path / "eng.testa").write_text(COLUMNS)
    found, report = read_annotated(tmp_path / "eng.testa")
    assert [(one.words, one.entities) for one in found] == [
        (("EU", "rejects", "New", "York"), (Entity(0, 1, "ORG"), Entity(2, 4, "LOC"))),
        (("U.N.", "met"), (Entity(0, 1, "ORG"),)),
    ]
    assert report.format == "conll" and report.places[1].endswith(":9")
    with pytest.raises(UserError, match="is not of format brat, but of format conll"):
        read_annotated(tmp_path / "eng.testa", "brat")
    (tmp_path / "eng.testa").write_text(COLUMNS + "there O\n")
    with pytest.raises(UserError, match=r"eng\.testa:11: 2 columns, where the first row has 3"):
        read_annotated(tmp_path / "eng.testa")


def test_a_docbin_as_the_tutorial_on_relations_writes_it(tmp_path):
    """Through spaCy's own interface: extension, `char_span`, `doc.ents`, `DocBin(store_user_data=True)`."""
    import spacy
    from spacy.tokens import Doc, DocBin

    if not Doc.has_extension("rel"):
        Doc.set_extension("rel", default={})
    doc = spacy.blank("en")("Ada Byron lives in  London, not in Paris.")
    doc.ents = [
        doc.char_span(0, 9, label="PER"),
        doc.char_span(20, 26, label="LOC"),
        doc.char_span(35, 40, label="LOC"),
    ]
    first = [span.start for span in doc.ents]
    doc._.rel = {(a, b): {"lives in": float((a, b) == (first[0], first[1]))} for a in first for b in first}
    DocBin(docs=[doc], store_user_data=True).to_disk(tmp_path / "train.spacy")
    (document,), report = read_documents(tmp_path / "train.spacy")
    assert document.text == doc.text and not report.findings
    assert named(document) == [("Ada Byron", "PER", 0), ("London", "LOC", 1), ("Paris", "LOC", 2)]
    assert document.facts == (Fact(0, 1, "lives in"),)
    words = Doc(spacy.blank("en").vocab, words=["Ada", "left", "Bob", "came"], sent_starts=[True, False, True, False])
    words.ents = [words[:1].char_span(0, 3, label="PER"), words.char_span(4, 12, label="ACROSS")]
    words._.rel = {(0, 1): {"r": 1.0}}
    DocBin(docs=[words], store_user_data=True).to_disk(tmp_path / "words.spacy")
    (document,), report = read_documents(tmp_path / "words.spacy")
    assert named(document) == [("Ada", "PER", 0)] and report.findings == {ENTITIES_ACROSS_SENTENCES: 1}
    (tmp_path / "bad.spacy").write_bytes(b"no")
    with pytest.raises(UserError, match=r"bad\.spacy: not a DocBin of spaCy"):
        read_documents(tmp_path / "bad.spacy")


def is_span(text: str) -> bool:
    """Of every format: brat's do not begin or end with a line end."""
    return bool(text.strip()) and text.strip("\r\n") == text


@st.composite
def texts(draw) -> Document:
    """A text with mentions of any characters, some of one entity, and facts between entities."""
    text = draw(st.text(st.sampled_from("Ab é🎉\n\r\t .\u2028\x85"), min_size=1, max_size=30))
    ends = draw(st.lists(st.tuples(st.integers(0, len(text)), st.integers(0, len(text))), max_size=6, unique=True))
    spans = [(min(pair), max(pair)) for pair in ends if pair[0] != pair[1] and is_span(text[min(pair) : max(pair)])]
    numbers: dict[int, int] = {}
    entities = [numbers.setdefault(draw(st.integers(0, 3)), len(numbers)) for _ in spans]
    mentions = [Mention(*span, draw(TYPES), entity) for span, entity in zip(spans, entities, strict=True)]
    facts = []
    if len(numbers) > 1:
        pair = st.permutations(range(len(numbers))).map(lambda order: order[:2])
        facts = [Fact(*draw(pair), draw(TYPES)) for _ in range(draw(st.integers(0, 3)))]
    return Document(
        text, tuple(mentions), tuple(dict.fromkeys(facts)), name=draw(st.sampled_from(["a/b", "é%2F", "."]))
    )


def alone(document: Document) -> Document:
    """The same without what most formats do not know: which mentions are of one entity."""
    between = between_mentions(document, Counter())
    mentions = tuple(one._replace(entity=number) for number, one in enumerate(document.mentions))
    return document._replace(mentions=mentions, facts=tuple(Fact(*one) for one in between))


@settings(deadline=None, max_examples=60)
@given(texts())
def test_texts_there_and_back(tmp_path_factory, document):
    folder = tmp_path_factory.mktemp("texts")
    for format, out, expected in (
        ("characters", "a.jsonl", alone(document)),
        ("label_studio", "b.json", alone(document)),
        ("brat", "c", document),
    ):
        if format == "brat":  # whose types have neither spaces nor signs
            expected = document._replace(
                mentions=tuple(one._replace(type=one.type[:1]) for one in document.mentions),
                facts=tuple(dict.fromkeys(one._replace(type=one.type[:1]) for one in document.facts)),
            )
        given = expected if format == "brat" else document
        write_documents([given], folder / out, format, "en")
        (found,), report = read_documents(folder / out)
        assert found == expected and not report.findings, format


@settings(deadline=None, max_examples=60)
@given(st.lists(annotated_sentences(), min_size=1, max_size=3))
def test_sentences_there_and_back(tmp_path_factory, given):
    folder = tmp_path_factory.mktemp("sentences")
    sentences = []
    for number, one in enumerate(given):  # without relations of an entity with itself, which no reader takes
        spans = [(entity.word_start, entity.word_end) for entity in one.entities]
        relations = tuple(r for r in one.relations if spans[r.head] != spans[r.tail])
        sentences.append(AnnotatedSentence(one.words, one.entities, relations, "", number))
    lost = write_sentences(sentences, folder / "a.jsonl", "glirel")
    found, report = read_annotated(folder / "a.jsonl")
    assert found == sentences and not lost and not report.findings
    lost = write_sentences(sentences, folder / "b.jsonl", "gliner")
    bare = [AnnotatedSentence(one.words, one.entities, (), "", one.number) for one in sentences]
    assert read_annotated(folder / "b.jsonl")[0] == bare
    assert sum(lost.values()) == sum(len(one.relations) for one in sentences)
    lost = write_sentences(sentences, folder / "c.conll", "conll")
    found, _ = read_annotated(folder / "c.conll", "conll")
    for one, read in zip(sentences, found, strict=True):
        same = [word for word in one.words if not set(word) & set("\t\r\n")]
        assert [word for word, own in zip(read.words, one.words, strict=True) if own in same] == same
        assert set(read.entities) <= set(one.entities)
        assert all(a.word_end <= b.word_start for a, b in pairwise(sorted(read.entities)))
    left_out = sum(len(one.entities) for one in sentences) - sum(len(one.entities) for one in found)
    assert sum(count for what, count in lost.items() if what.startswith("entities")) == left_out


def test_the_nearest_mentions_and_the_longest_entities_are_kept(tmp_path):
    mentions = [Mention(0, 3, "P", 0), Mention(30, 33, "L", 1), Mention(20, 23, "P", 0), Mention(14, 17, "L", 1)]
    assert between_mentions(Document(" " * 40, tuple(mentions), (Fact(1, 0, "of"),)), Counter()) == [(3, 2, "of")]
    entities = (Entity(0, 1, "A"), Entity(0, 2, "B"), Entity(1, 3, "C"))
    write_sentences([AnnotatedSentence(("a", "b", "c"), entities)], tmp_path / "a.conll", "conll")
    assert read_annotated(tmp_path / "a.conll")[0][0].entities == entities[1:2]


def test_docbins_there_and_back(tmp_path):
    text = Document(
        "Ada Byron  lived\nin London.", (Mention(0, 9, "PER", 0), Mention(0, 26, "ALL", 1), Mention(20, 26, "LOC", 2)),
        (Fact(2, 1, "in"), Fact(2, 0, "of")), name="first",
    )  # fmt: skip
    words = Document.of_words(
        [["U.S.", "Ada"], ["in", "New York", "!"]],
        [Mention(1, 2, "PER", 0, 0), Mention(1, 2, "LOC", 1, 1)], [Fact(0, 1, "in")], name="second",
    )  # fmt: skip
    lost = write_documents([text, words], tmp_path / "a.spacy", "spacy", "en")
    (first, second), report = read_documents(tmp_path / "a.spacy")
    assert not report.findings
    assert first == text._replace(facts=text.facts[:1])  # Ada begins where ALL begins
    assert second == words
    assert [count for what, count in lost.items()] == [2, 1]


def test_what_a_file_is_written_as(tmp_path):
    assert format_of_out(tmp_path / "a.jsonl.gz", None) == "unified"
    assert format_of_out(tmp_path / "folder", None) == "brat"
    assert format_of_out(tmp_path / "a.bio.gz", None) == "conll"
    with pytest.raises(UserError, match="format brat is written as a folder"):
        format_of_out(tmp_path / "a.json", "brat")
    with pytest.raises(UserError, match="is not the name of a new folder"):
        format_of_out(Path(), None)
    with pytest.raises(UserError, match=r"end in \.spacy"):
        format_of_out(tmp_path / "a.json", "spacy")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UserError, match="is there already"):
        write_documents([], tmp_path / "full", "brat", "en")
    with pytest.raises(UserError, match=r"types 'a b' and 'a_b' would both be 'a_b'"):
        write_documents(
            [Document("a", (Mention(0, 1, "a_b", 0), Mention(0, 1, "a b", 1)))], tmp_path / "b", "brat", "en"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
