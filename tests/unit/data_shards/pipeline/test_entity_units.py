"""Units of text with entities, one by one and without Ray."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

import data_shards
from data_shards.errors import UserError
from data_shards.pipeline.annotate import AnnotateStep
from data_shards.pipeline.build import _gold_types
from data_shards.pipeline.build_config import AnnotateConfig, BuildConfig, RecordLimits
from data_shards.pipeline.corpus import read_units, resolve_sources
from data_shards.pipeline.derive import DerivePlan, derive_shard
from data_shards.pipeline.finished_unit import FinishedUnit
from data_shards.pipeline.ner_pipeline import EntityPlan, NerPipeline
from data_shards.pipeline.unit_builder import TOKENIZER_FOLDER, UnitPlan, build_unit
from data_shards.sample.corpus import generate, write_annotated, write_corpus
from data_shards.shards.manifest import Manifest, Statistics, TokenizerInfo
from data_shards.shards.reader import ShardReader, verify
from data_shards.shards.record import ENTITIES, TEXT_LAYERS, Records
from data_shards.shards.record_words import RecordWords
from data_shards.text.word_pieces import WordPieces
from tests.unit.data_shards.entity_pipelines import write_ruler

DEBUG_VOCAB = str(Path(data_shards.__file__).with_name("debug_vocab.txt"))
Found = list[tuple[str, list[tuple[str, str]]]]


def build(
    out: Path, path: Path, entities: EntityPlan | None, *, unit_documents: int | None = None, block_records: int = 64
) -> list[FinishedUnit]:
    """A dataset as `build` writes it, in this process."""
    (out / ".units").mkdir(parents=True)
    word_pieces = WordPieces.load(DEBUG_VOCAB)
    word_pieces.save(out / TOKENIZER_FOLDER)
    sources = resolve_sources([str(path)], None, out)
    settings = json.dumps(entities.settings) if entities else ""
    plan = UnitPlan(out, sources, settings, "text", "en", block_records, RecordLimits(2, 128, 128), entities)
    read = read_units(sources[0], 0, text_field="text", unit_documents=unit_documents)
    units = [build_unit(plan, unit)[0] for unit in read]
    write_manifest(out, units, entities, word_pieces, block_records)
    return units


def write_manifest(
    out: Path, units: Sequence[FinishedUnit], entities: EntityPlan | None, word_pieces: WordPieces, block_records: int
) -> None:
    counts = np.sum([unit.entity_counts for unit in units], axis=0).tolist() if entities else []
    info = TokenizerInfo(
        TOKENIZER_FOLDER, {}, word_pieces.fingerprint, word_pieces.vocab_size, True, word_pieces.special_ids
    )
    Manifest(
        out.name,
        tuple(unit.shard for unit in units if unit.shard),
        (*TEXT_LAYERS, ENTITIES) if entities else TEXT_LAYERS,
        block_records,
        128,
        info,
        {},
        sum((unit.statistics for unit in units), Statistics()),
        dict(zip(entities.types, counts, strict=True)) if entities else {},
    ).save(out)


def told(records: Records, folder: Path, types: Sequence[str]) -> Found:
    """Each record's text and entities."""
    words = RecordWords(Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))).words(records)
    return [
        (" ".join(text), [(" ".join(text[a:b]), types[type]) for a, b, type in records.entities.row(row).tolist()])
        for row, text in enumerate(words)
    ]


def gold(path: Path, min_entities: int = 0) -> EntityPlan:
    return EntityPlan(_gold_types(resolve_sources([str(path)], None, path.parent), "text"), None, min_entities)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("entities") / "sample.jsonl"
    write_corpus(path, sentences=200, seed=3)
    return path


@pytest.mark.parametrize("min_entities", [0, 3])
def test_the_embedded_corpus_comes_with_its_entities(corpus: Path, tmp_path: Path, min_entities: int) -> None:
    plan = gold(corpus, min_entities)
    units = build(tmp_path / "out", corpus, plan, unit_documents=70)
    expected = [
        (uncased(s.words), [(uncased(s.words[e.start : e.end]), e.type) for e in s.entities])
        for s in generate(200, seed=3)
        if len(s.entities) >= min_entities
    ]
    reader = ShardReader(tmp_path / "out")
    found = told(reader.take(np.arange(len(reader))), tmp_path / "out", plan.types)
    assert found == expected
    assert verify(tmp_path / "out") == []
    statistics = reader.manifest.statistics
    total = sum(len(entities) for _, entities in found)
    assert statistics.entities == total == sum(reader.manifest.entity_types.values())
    assert statistics.dropped["too_few_entities"] == 200 - len(found) and (min_entities == 0 or len(found) < 200)
    assert sum(statistics.entity_changes.values()) == 0
    assert [unit.shard.entities for unit in units] == [sum(unit.entity_counts) for unit in units]


def test_offsets_in_another_unit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "🎉🎉 Ada Byron sips tea.", "entities": [[5, 14, "P"]]}) + "\n")
    plain = gold(path)
    (warning,) = caplog.messages
    assert "a.jsonl: in 1 of 1 texts" in warning and "add --offsets utf16" in warning
    caplog.clear()
    plan = replace(plain, offsets="utf16")
    assert _gold_types(resolve_sources([str(path)], None, tmp_path), "text", "utf16") == ("P",) and not caplog.messages
    build(tmp_path / "out", path, plan)
    reader = ShardReader(tmp_path / "out")
    ((_, entities),) = told(reader.take(np.arange(1)), tmp_path / "out", plan.types)
    assert entities == [("ada byron", "P")]
    assert "offsets" not in plain.settings and plan.settings["offsets"] == "utf16"  # decides bytes


def uncased(words: Sequence[str]) -> str:
    return " ".join(words).lower().replace("ö", "o")


def test_characters_of_a_text_of_several_sentences(tmp_path: Path) -> None:
    text = "Ada Lovelace lives in New York-based rooms. She left. Then Bell rang.\nHm\nCarol sat."
    names = [
        ("Lovelace lives", "P"),  # shares a word with the next, which is longer
        ("Ada Lovelace lives", "P"),
        ("York-ba", "L"),  # ends inside a word
        ("left. Then", "X"),
        (" ", "X"),
        ("Bell ", "P"),
        ("Hm", "X"),  # goes with its sentence, which is too short
        ("Carol", "P"),
    ]
    entities = [[text.index(name), text.index(name) + len(name), type] for name, type in names]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "No one."}) + "\n" + json.dumps({"text": text, "entities": entities}) + "\n")
    plan = gold(path)
    assert plan.types == ("L", "P", "X")
    (unit,) = build(tmp_path / "out", path, plan)
    found = told(ShardReader(tmp_path / "out").take([0, 1, 2, 3]), tmp_path / "out", plan.types)
    expected = [[("ada lovelace lives", "P"), ("york [UNK] based", "L")], [], [("bell", "P")], [("carol", "P")]]
    assert [entities for _, entities in found] == expected
    changes = {"widened": 1, "across_sentences": 1, "overlapping": 1, "without_words": 1}
    assert unit.statistics.entity_changes == changes
    (bad,) = unit.bad_lines
    assert bad.line == 1 and bad.reason == "no fields of annotated data, such as 'entities', only text"


@pytest.mark.parametrize("form", ["dygie", "docred", "spe", "lists", "bio"])
def test_all_formats_of_annotated_data_give_the_same_shard(tmp_path: Path, form: str) -> None:
    """What spe data convert writes of a file gives the same records as the file."""
    told = list(generate(40, seed=3))
    words = [list(sentence.words) for sentence in told]
    starts = np.cumsum([0, *map(len, words)]).tolist()
    dygie = {
        "sentences": words,
        "ner": [
            [[start + e.start, start + e.end - 1, e.type] for e in sentence.entities]
            for start, sentence in zip(starts, told, strict=False)
        ],
    }
    mentions = [
        [{"sent_id": number, "pos": [e.start, e.end], "type": e.type}]
        for number, sentence in enumerate(told)
        for e in sentence.entities
    ]
    tags = [
        [
            next((f"{'BI'[i > e.start]}-{e.type}" for e in s.entities if e.start <= i < e.end), "O")
            for i in range(len(s.words))
        ]
        for s in told
    ]
    contents = {
        "dygie": json.dumps(dygie),
        "docred": json.dumps([{"sents": words, "vertexSet": mentions}]),
        "spe": "\n".join(
            json.dumps(
                {
                    "tokens": s.words,
                    "entityMentions": [
                        {"emId": str(i), "offset": [e.start, e.end], "label": e.type} for i, e in enumerate(s.entities)
                    ],
                }
            )
            for s in told
        ),
        "lists": json.dumps(
            [{"tokens": s.words, "entities": [[e.start, e.end, e.type] for e in s.entities]} for s in told]
        ),
        "bio": "\n\n".join(
            "\n".join(f"{word} {tag}" for word, tag in zip(s.words, tag, strict=True))
            for s, tag in zip(told, tags, strict=True)
        ),
    }
    write_annotated(tmp_path / "unified.jsonl", told)
    (tmp_path / "other").write_text(contents[form])
    found = []
    for name in ("unified.jsonl", "other"):
        (unit,) = build(tmp_path / f"{name}.shards", tmp_path / name, gold(tmp_path / name))
        assert unit.shard is not None
        found.append(((tmp_path / f"{name}.shards" / unit.shard.url).read_bytes(), unit.statistics.entities))
    assert found[0] == found[1] and found[0][1] > 40


def test_tags_become_entities_and_no_sentence_is_split(tmp_path: Path) -> None:
    path = tmp_path / "a.bio"
    path.write_text("Mr. O\nBell B-P\n. O\nShe O\nsaw O\nNew-York B-L\nCity I-L\n")
    (unit,) = build(tmp_path / "out", path, gold(path))
    ((text, entities),) = told(ShardReader(tmp_path / "out").take([0]), tmp_path / "out", ("L", "P"))
    assert (text, entities) == ("mr. bell . she saw new [UNK] york city", [("bell", "P"), ("new [UNK] york city", "L")])
    assert unit.entity_counts == (1, 1)


def test_a_pipeline_sees_the_words_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("Ada Lovelace saw London .\nx\nada lovelace saw it .\nIn 1843 Bell left New York .\n")
    info = NerPipeline(write_ruler(tmp_path / "ner", lowercase=False)).info
    build(tmp_path / "out", path, EntityPlan(info.types, info, 0))
    found = told(ShardReader(tmp_path / "out").take([0, 1, 2]), tmp_path / "out", info.types)
    assert [entities for _, entities in found] == [
        [("ada lovelace", "Person"), ("london", "Place")],
        [],
        [("1843", "Year"), ("bell", "Person"), ("new york", "Place")],
    ]
    build(tmp_path / "some", path, EntityPlan(info.types, info, 3))
    assert len(ShardReader(tmp_path / "some")) == 1


@pytest.fixture
def plain(corpus: Path, tmp_path: Path) -> Path:
    build(tmp_path / "plain", corpus, None, unit_documents=70)
    return tmp_path / "plain"


@pytest.fixture
def plan(plain: Path, tmp_path: Path) -> DerivePlan:
    """For names that the embedded corpus tells."""
    names: dict[str, list[str]] = {}
    for sentence in generate(120, seed=3):
        for entity in sentence.entities:
            names.setdefault(entity.type, []).append(uncased(sentence.words[entity.start : entity.end]))
    info = NerPipeline(write_ruler(tmp_path / "ner", names)).info
    (tmp_path / "out" / ".units").mkdir(parents=True)
    entities = EntityPlan(info.types, info, 2)
    return DerivePlan(
        tmp_path / "out", str(plain), ShardReader(plain).manifest.fingerprint, AnnotateStep(entities), "settings"
    )


def test_shards_are_annotated_one_by_one(plan: DerivePlan, plain: Path) -> None:
    assert isinstance(plan.step, AnnotateStep)
    source, entity_plan = ShardReader(plain), plan.step.entities
    units = [derive_shard(plan, index)[0] for index in range(3)]
    word_pieces = WordPieces.load(DEBUG_VOCAB)
    word_pieces.save(plan.out / TOKENIZER_FOLDER)
    write_manifest(plan.out, units, entity_plan, word_pieces, 64)
    assert verify(plan.out) == []
    everything = source.take(np.arange(len(source)))
    assert entity_plan.ner is not None
    words = RecordWords(Tokenizer.from_file(str(plain / "tokenizer" / "tokenizer.json"))).words(everything)
    entities = NerPipeline(entity_plan.ner.source).find(words)
    kept = np.flatnonzero(entities.lengths >= 2)
    assert 20 < len(kept) < len(source)
    found = ShardReader(plan.out).take(np.arange(len(kept)))
    for ours, theirs in (
        (found.pieces, everything.pieces.take(kept)),
        (found.word_starts, everything.word_starts.take(kept)),
        (found.entities, entities.take(kept)),
    ):
        assert np.array_equal(ours.values, theirs.values) and np.array_equal(ours.offsets, theirs.offsets)
    assert [unit.shard.url for unit in units] == [shard.url for shard in source.manifest.shardlist]
    assert sum(unit.statistics.dropped["too_few_entities"] for unit in units) == len(source) - len(kept)


def test_finished_shards_are_found_and_others_are_made_anew(plan: DerivePlan) -> None:
    first, found = derive_shard(plan, 0)
    assert not found and derive_shard(plan, 0) == (first, True)
    assert derive_shard(replace(plan, settings="other"), 0)[1] is False
    assert first.shard is not None
    (plan.out / first.shard.url).write_bytes(b"")
    assert derive_shard(replace(plan, settings="other"), 0)[1] is False
    with pytest.raises(UserError, match="the dataset differs"):
        derive_shard(replace(plan, fingerprint="other"), 0)


def test_no_records_still_have_the_layer(corpus: Path, plain: Path, tmp_path: Path) -> None:
    build(tmp_path / "gold", corpus, gold(corpus))
    empty = ShardReader(tmp_path / "gold").take([])
    assert empty.entities.values.shape == (0, 3) and len(empty.entities) == 0
    joined = Records.concat([empty, ShardReader(tmp_path / "gold").take([5])])
    assert len(joined) == len(joined.entities) == 1
    assert ENTITIES not in ShardReader(plain).take([]).layers


def test_a_layer_that_is_promised_but_not_there_is_told(plain: Path) -> None:
    document = json.loads((plain / "manifest.json").read_text())
    (plain / "manifest.json").write_text(json.dumps(document | {"layers": ["pieces", "words", "entities"]}))
    with pytest.raises(UserError, match=r"block without entities\.npy"):
        ShardReader(plain).take([0])


def test_verify_sees_types_and_counts_that_are_wrong(corpus: Path, tmp_path: Path) -> None:
    build(tmp_path / "out", corpus, gold(corpus))
    path = tmp_path / "out" / "manifest.json"
    document = json.loads(path.read_text())
    document["entity_types"].popitem()
    document["shardlist"][0]["entities"] += 1
    path.write_text(json.dumps(document))
    problems = " ".join(verify(tmp_path / "out"))
    assert "entities have a type beyond the 4" in problems and "entities, the manifest says" in problems


def test_types_of_gold_are_sorted_and_too_many_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    lines = [{"text": "ab", "entities": [[0, 1, f"name {number}"]]} for number in range(1025)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match="more than 1024 types of entities, such as name 0"):
        gold(path)
    path.write_text('{"text": "ab", "entities": []}\n')
    with pytest.raises(UserError, match=r"no entities in a\.jsonl"):
        gold(path)
    (tmp_path / "a.txt").write_text("x\n")
    with pytest.raises(UserError, match=r"a\.txt is lines of text, which has no entities"):
        gold(tmp_path / "a.txt")


def test_settings_that_contradict_are_refused(tmp_path: Path) -> None:
    for options, match in (
        ({"ner": "x", "gold_entities": True}, "not from both"),
        ({"offsets": "utf16"}, "add --gold-entities"),
        ({"min_entities": 3}, "needs entities"),
        ({"min_entities": -1}, "must not be negative"),
    ):
        with pytest.raises(UserError, match=match):
            BuildConfig(("a.txt",), tmp_path, "t", **options)
    for options, match in (({"workers": 0}, "workers"), ({"min_entities": -1}, "min_entities")):
        with pytest.raises(UserError, match=match):
            AnnotateConfig("a", tmp_path, "x", **options)
