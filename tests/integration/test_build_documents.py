"""The sample documents as shards: from text and knowledge base the same as from gold, however they are built."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_shards.knowledge.knowledge_base import KnowledgeBase
from data_shards.pipeline.build import build_with_summary
from data_shards.pipeline.build_config import BuildConfig
from data_shards.sample.documents import generate_documents, write_documents
from data_shards.shards.reader import ShardReader, verify
from data_shards.shards.record import Records
from tests.integration.test_build import kill_when_units_are_finished, tars
from tests.unit.data_shards.conftest import DEBUG_VOCAB, build_here

DOCUMENTS, SEED = 300, 4
pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_documents(folder, documents=DOCUMENTS, seed=SEED, annotated={})
    return folder


@pytest.fixture(scope="module")
def linked(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildConfig:
    """Eight units; every document is a record."""
    everything = {"min_words": 1, "min_entities": 0, "min_facts": 0}
    config = BuildConfig(
        (str(sample / "text.jsonl"),), tmp_path_factory.mktemp("built") / "linked", DEBUG_VOCAB, documents=True,
        kb=sample / "kb", unit_documents=40, block_records=32, **everything,
    )  # fmt: skip
    build_here(config)
    return config


def records_of(folder: Path) -> Records:
    reader = ShardReader(folder)
    return reader.take(np.arange(len(reader)))


def mentions_of(records: Records) -> set[tuple[int, ...]]:
    """Record, first word, end word, entity of every mention."""
    mentions = records.entities
    columns = mentions.row_index(), *mentions.values[:, :2].T, records.layers["mention_entities"].values
    return set(zip(*(column.tolist() for column in columns), strict=True))


def facts_of(folder: Path) -> set[tuple[int, int, int, str]]:
    """Record, head, tail and code of the relation of every fact."""
    codes = list(ShardReader(folder).manifest.relation_types)
    rows = records_of(folder).layers["relations"]
    values = rows.values.tolist()
    return {(record, h, t, codes[r]) for record, (h, t, r) in zip(rows.row_index().tolist(), values, strict=True)}


def test_text_and_knowledge_base_give_what_gold_says(sample: Path, linked: BuildConfig, tmp_path: Path) -> None:
    gold = replace(linked, inputs=(str(sample / "documents.json"),), kb=None, out=tmp_path / "gold")
    build_here(gold)
    one, other = records_of(gold.out), records_of(linked.out)
    assert len(one) == len(other) == DOCUMENTS
    for name in ("pieces", "words", "sentence_starts"):
        for array in ("values", "offsets"):
            assert np.array_equal(getattr(one.layers[name], array), getattr(other.layers[name], array))
    true, found = mentions_of(one), mentions_of(other)
    assert len(true) > 15 * DOCUMENTS
    assert found <= true, "precision"
    assert len(found & true) >= 0.99 * len(true), "recall"
    assert facts_of(gold.out) == facts_of(linked.out)
    assert len(facts_of(gold.out)) > 12 * DOCUMENTS
    kinds = [ShardReader(folder).manifest.relation_types for folder in (gold.out, linked.out)]
    assert {code: kind.name for code, kind in kinds[0].items()} == {code: kind.name for code, kind in kinds[1].items()}
    assert [kind.facts for kind in kinds[0].values()] == [kind.facts for kind in kinds[1].values()]


def test_entities_are_those_of_the_knowledge_base(sample: Path, linked: BuildConfig) -> None:
    ids, found = KnowledgeBase.load(sample / "kb").entity_ids, records_of(linked.out).layers["knowledge_ids"]
    for number, document in enumerate(generate_documents(DOCUMENTS, seed=SEED)):
        told = (e.id for sentence in document.sentences for e in sentence.entities if e.type != "Year")
        assert [ids[entity] for entity in found.row(number)] == list(dict.fromkeys(told))


def test_usual_limits_keep_most_of_the_documents(sample: Path, linked: BuildConfig, tmp_path: Path) -> None:
    usual = replace(linked, min_words=40, min_entities=None, min_facts=None, out=tmp_path / "out")
    build_here(usual)
    assert 0.97 * DOCUMENTS < len(ShardReader(usual.out)) <= DOCUMENTS


@pytest.mark.slow  # test_build.py has a shorter one
def test_one_worker_and_two_give_the_same_bytes(linked: BuildConfig, tmp_path: Path) -> None:
    for workers in (1, 2):
        summary = build_with_summary(replace(linked, out=tmp_path / str(workers), parallelism=workers))
        assert summary.units == 8
        assert tars(tmp_path / str(workers)) == tars(linked.out)


RUN = """
import sys
from pathlib import Path
from data_shards.pipeline.build import build_with_summary
from data_shards.pipeline.build_config import BuildConfig
source, kb, out, tokenizer = sys.argv[1:]
build_with_summary(BuildConfig(
    (source,), Path(out), tokenizer, documents=True, kb=Path(kb), unit_documents=5, block_records=32, min_words=1,
    min_entities=0, min_facts=0, parallelism=1,
))
"""


@pytest.mark.slow  # test_build.py kills builds of sentences, which share the units, in every run
def test_a_build_that_is_killed_again_and_again_gives_the_same_bytes(
    sample: Path, linked: BuildConfig, tmp_path: Path
) -> None:
    clean, killed = tmp_path / "clean", tmp_path / "killed"
    config = replace(linked, unit_documents=5, out=clean)
    build_here(config)
    arguments = [linked.inputs[0], str(sample / "kb"), str(killed), linked.tokenizer]
    for units in (4, 30):
        kill_when_units_are_finished(RUN, arguments, killed, units=units)
        assert not (killed / "manifest.json").exists()
    summary = build_with_summary(replace(config, out=killed))
    assert 0 < summary.units_reused < summary.units == 60
    assert tars(killed) == tars(clean) and verify(killed) == []
    assert (killed / "manifest.json").read_text() == (clean / "manifest.json").read_text().replace(
        '"clean"', '"killed"'
    )
