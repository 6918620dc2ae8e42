"""`spe predict` of raw texts with a model of document relations: --mentions finds the entities."""

import gzip
import io
import json
from collections import Counter
from functools import cache

import pytest
from networkx import read_graphml

from data_shards.errors import UserError
from data_shards.pipeline import ner_pipeline
from data_shards.text.word_pieces import WordPieces
from launcher.cli import dispatch
from launcher.worded_text import ACROSS_SENTENCES, WIDENED, WITHOUT_WORDS, WordedText, told
from spe_dist.extraction.predict.extracted_text import ExtractedEntity, ExtractedText
from spe_dist.extraction.predict.extractor import Extractor
from tests.unit.data_shards.entity_pipelines import write_ruler
from tests.unit.spe_dist.document_relations.tiny import save_document_model
from tests.unit.spe_dist.extraction.lively import save_lively
from tests.unit.spe_dist.tiny_run import DEBUG_VOCAB

SENTS = [["Ann", "Lee", "runs", "Acme", "."], ["ACME", "is", "in", "Paris", ",", "as", "Ann", "Lee", "says", "."]]
TEXT = "Ann Lee runs Acme. ACME is in Paris, as Ann  Lee says."
ENTITIES = {  # sentence, words; characters
    "PER": [((0, 0, 2), (0, 7)), ((1, 6, 8), (40, 48))],
    "ORG": [((0, 3, 4), (13, 17)), ((1, 0, 1), (19, 23))],
    "LOC": [((1, 3, 4), (30, 35))],
}
TEXTS = ["Ada Lovelace met Bell in London. Bell left NEW YORK for New York.", "Nobody came.", "", "London", 'é 😀 \\ "']


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_document_model(folder / "documents")
    save_lively(folder / "extractor")
    write_ruler(folder / "ruler")
    return folder


@pytest.fixture(scope="module")
def pipeline():
    return cache(ner_pipeline.NerPipeline)  # to load one takes longer than the rest of a command


@pytest.fixture
def predict(folder, pipeline, capsysbinary, monkeypatch):
    monkeypatch.setattr(ner_pipeline, "NerPipeline", pipeline)

    def run(*arguments, mentions: str | None = "ruler") -> list[dict]:
        given = [] if mentions is None else ["--mentions", str(folder / mentions)]
        dispatch(["predict", str(folder / "documents"), *map(str, arguments), *given])
        return [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]

    return run


def give(monkeypatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_found_mentions_give_what_listed_mentions_give(predict, tmp_path, monkeypatch):
    def stand_in(*_, **__):
        class Finds:
            def stream(self, texts, *, told=None):
                found = [(*place, type) for type, places in ENTITIES.items() for _, place in places]
                entities = [ExtractedEntity(start, end, TEXT[start:end], type, 0.9) for start, end, type in found]
                yield from (ExtractedText(text, tuple(entities), (), ()) for text in texts)

        return Finds()

    monkeypatch.setattr(Extractor, "from_pretrained", stand_in)
    vertices = [
        [{"name": " ".join(SENTS[s][a:b]), "pos": [a, b], "sent_id": s, "type": type} for (s, a, b), _ in places]
        for type, places in ENTITIES.items()
    ]
    (tmp_path / "a.json").write_text(json.dumps([{"title": "d", "sents": SENTS, "vertexSet": vertices, "labels": []}]))
    (listed,) = predict(tmp_path / "a.json", mentions=None)
    (found,) = predict("--text", TEXT, mentions="extractor")
    assert 3 < len(listed["edges"]) < 18 and found["edges"] == listed["edges"]
    assert list(found) == ["text", "title", "nodes", "edges"] and found["text"] == TEXT
    assert [node["type"] for node in found["nodes"]] == [node["type"] for node in listed["nodes"]] == [*ENTITIES]
    for node, places in zip(found["nodes"], ENTITIES.values(), strict=True):
        assert [(one["start"], one["end"]) for one in node["mentions"]] == [place for _, place in places]
        assert [one["sentence"] for one in node["mentions"]] == [sentence for (sentence, *_), _ in places]


def test_a_pipeline_reads_every_form_of_input(predict, folder, tmp_path, monkeypatch, capsysbinary):
    lines = "".join(f"{text}\n" for text in TEXTS).encode()
    objects = "".join(json.dumps({"id": n, "body": t, "spans": []}) + "\n" for n, t in enumerate(TEXTS)).encode()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "c.jsonl").write_bytes(objects + b'{"body": 7}\n')
    expected = predict(tmp_path / "in")
    assert [line["text"] for line in expected] == TEXTS
    names = [[(node["name"], node["type"], len(node["mentions"])) for node in line["nodes"]] for line in expected]
    place, person = "Place", "Person"
    first = [("Ada Lovelace", person, 1), ("Bell", person, 2), ("London", place, 1), ("NEW YORK", place, 2)]
    assert names == [first, [], [], [("London", place, 1)], []]
    assert [bool(line["edges"]) for line in expected] == [True] + [False] * 4
    (york,) = (node for node in expected[0]["nodes"] if node["name"] == "NEW YORK")
    assert [TEXTS[0][one["start"] : one["end"]] for one in york["mentions"]] == ["NEW YORK", "New York"]
    for data, *arguments in ((lines, "-"), (lines,)):
        give(monkeypatch, data)
        assert predict(*arguments) == expected
    found = predict(tmp_path / "c.jsonl", "--text-field", "body", "--max-bad-lines", "1")
    assert [list(line) for line in found] == [["id", "body", "spans", "title", "nodes", "edges"]] * 5
    assert [(line["title"], line["nodes"], line["edges"]) for line in found] == [
        (str(number), line["nodes"], line["edges"]) for number, line in enumerate(expected)
    ]
    words = ["Bell", "\u200b", "", "met", "Ada", "Lovelace", "\ud800"]
    (tmp_path / "words.jsonl").write_text(json.dumps({"tokens": words}))
    (line,) = predict(tmp_path / "words.jsonl")
    assert [(one["name"], one["mentions"][0]["start"], one["mentions"][0]["end"]) for one in line["nodes"]] == [
        ("Bell", 0, 1), ("Ada Lovelace", 4, 6),
    ]  # fmt: skip
    out = tmp_path / "found.graphml"
    predict(tmp_path / "in", "--out", out, "--graph-nodes", "text")
    graph = read_graphml(out, force_multigraph=True)
    assert len(graph) == 5 and len(graph.edges) == len(expected[0]["edges"])
    dispatch(["predict", str(folder / "documents"), "--text", TEXTS[0], "--mentions", str(folder / "ruler"),
              "--out", str(tmp_path / "b.jsonl")])  # fmt: skip
    said = capsysbinary.readouterr().err.decode()
    assert "1 text, 2 sentences" in said and "4: 2 Person, 2 Place" in said


def test_an_extractor_finds_mentions(folder, predict, tmp_path):
    (line,) = predict("--text", TEXT, "--min-relation-score", "0.6", mentions="extractor")
    found = Extractor.from_pretrained(folder / "extractor")([TEXT])[0].entities
    assert found and line["edges"] and all(edge["score"] >= 0.6 for edge in line["edges"])
    places = [(one["start"], one["end"], node["type"]) for node in line["nodes"] for one in node["mentions"]]
    assert sorted(places) == sorted((one.start, one.end, one.type) for one in found)
    assert predict("--text", TEXT, "--min-entity-score", "1", mentions="extractor")[0]["nodes"] == []
    assert predict("--text", "", mentions="extractor") == [{"text": "", "title": "", "nodes": [], "edges": []}]
    (tmp_path / "words.jsonl").write_text(json.dumps({"tokens": SENTS[0]}))
    (line,) = predict(tmp_path / "words.jsonl", mentions="extractor")
    words = Extractor.from_pretrained(folder / "extractor")([SENTS[0]])[0].entities
    assert {(one["start"], one["end"]) for node in line["nodes"] for one in node["mentions"]} == {
        (one.token_start, one.token_end) for one in words
    }


def test_mentions_are_whole_words_of_one_sentence():
    text = WordedText.of("Ann-Lee ran.\nAnn's \u200b\ud800 ANN", WordPieces.load(str(DEBUG_VOCAB)), name="n")
    assert text.sentences == [["Ann", "-", "Lee", "ran", "."], ["Ann", "'s", "ANN"]]
    changes = Counter()
    people = [(13, 16), (22, 25), (0, 3), (8, 15), (19, 20), (13, 15)]
    spans = [*((start, end, "PER") for start, end in people), (1, 6, "ORG"), (22, 25, "ORG")]
    document = text.with_mentions(spans, changes)
    assert [(one.start, one.end, one.type, one.entity) for one in document.mentions] == [
        (0, 3, "PER", 0), (0, 7, "ORG", 1), (13, 16, "PER", 0), (22, 25, "ORG", 2), (22, 25, "PER", 0),
    ]  # fmt: skip
    assert changes == {WIDENED: 2, ACROSS_SENTENCES: 1, WITHOUT_WORDS: 1}
    assert told(changes) == f"2 {WIDENED}, 1 {ACROSS_SENTENCES}, 1 {WITHOUT_WORDS}" and not told(Counter())


def test_mistakes_are_one_line(folder, predict, tmp_path):
    (tmp_path / "a.txt").write_text("Ann runs Acme.\n")
    (tmp_path / "b.jsonl").write_text('{"text": "Ann", "entities": [{"start": 0, "end": 3, "type": "PER"}]}\n')
    (tmp_path / "c.json").write_text(json.dumps([{"title": "d", "sents": SENTS, "vertexSet": [], "labels": []}]))
    (tmp_path / "d.jsonl").write_text('{"text": "Ann", "label": ["news"]}\n{"body": ""}\n')
    (tmp_path / "empty").mkdir()
    for arguments, mentions, complaint in (
        ([tmp_path / "a.txt"], None, "nothing in .*a.txt gives mentions.* or name with --mentions"),
        ([tmp_path / "d.jsonl"], "ruler", r"text 1 gives mentions of its own \(field 'label'\)"),
        ([tmp_path / "b.jsonl"], "ruler", r"text 1 gives mentions of its own \(field 'entities'\).*leave --mentions"),
        ([tmp_path / "c.json"], "extractor", r"text 1 gives mentions of its own \(it is annotated data\)"),
        (["--text", "x"], tmp_path / "empty", "--mentions: .*empty is not an extractor.*or name a pipeline of spaCy"),
        (["--text", "x", "--offsets", "utf16"], "ruler", "--offsets is for files that give their mentions"),
        (["--text", "x", "--min-entity-score", "0.5"], "ruler", "--min-entity-score is for extractors"),
        (["--text", "x", "--format", "html"], "ruler", "--format html is not for .*: it writes JSON lines, GraphML"),
    ):
        with pytest.raises(UserError, match=complaint) as caught:
            predict(*arguments, mentions=mentions)
        assert "\n" not in str(caught.value)
