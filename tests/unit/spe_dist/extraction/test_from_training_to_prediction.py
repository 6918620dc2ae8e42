"""From annotated data to `spe predict`, with entities that lie in other entities."""

import json
import random
from pathlib import Path

import pytest

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity
from data_shards.annotated.read import read_annotated
from data_shards.annotated.unified import write_unified
from launcher.cli import dispatch
from spe_dist.extraction.scores.joint_scoring import JointScoring
from spe_dist.extraction.scores.scoring import score
from spe_dist.finetuning.folder import LOG, Result, seed_folder
from spe_dist.finetuning.loop import finetune
from spe_dist.finetuning.predictions import read_run
from tests.distributed.ranks import run_ranks
from tests.unit.spe_dist.extraction.tiny import sentence
from tests.unit.spe_dist.extraction.tiny_finetuning import TINY_MODEL, config_in

pytestmark = pytest.mark.any_version

PEOPLE = ("Ann", "Bob", "Marie", "Carl", "Eve", "Tom")
PLACES = ("Warsaw", "Paris", "London", "Rome", "Berlin", "Madrid", "Oslo")
# In the first three, an organisation has a place in its name; in the second, the two are related.
KINDS = (
    ("{person} works at the University of {place} .", "0-1:PER 4-7:ORG 6-7:LOC", "0>1:works"),
    ("the {place} bank knows {person} of {other} .", "1-3:ORG 1-2:LOC 4-5:PER 6-7:LOC", "0>1:seat 2>0:works 2>3:lives"),
    ("in the Museum of {place} in {other} is a painter .", "2-7:ORG 4-5:LOC 6-7:LOC", ""),
    ("the university works with {person} in {place} .", "4-5:PER 6-7:LOC", "0>1:lives"),
    ("a bank of {place} is in the region .", "3-4:LOC", ""),
)
SIZES = {"train": 100, "dev": 20, "test": 80}


def write_data(folder: Path) -> None:
    """Sentences of these kinds, each in one file and once."""
    choice = random.Random(1)
    filled = {
        (words.format(person=person, place=place, other=other), entities, relations)
        for words, entities, relations in KINDS
        for person in PEOPLE
        for place in PLACES
        for other in PLACES
        if other != place
    }
    sentences = iter([sentence(*one) for one in choice.sample(sorted(filled), sum(SIZES.values()))])
    for name, size in SIZES.items():
        write_unified([next(sentences) for _ in range(size)], folder / f"{name}.jsonl")


def overlapping(one: AnnotatedSentence) -> set[Entity]:
    """Entities that share words with another."""
    return {entity for entity in one.entities if any(share_words(entity, other) for other in one.entities)}


def share_words(a: Entity, b: Entity) -> bool:
    return a != b and a.word_start < b.word_end and b.word_start < a.word_end


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The folder of a seed in the recipes' precision, and its result."""
    folder = tmp_path_factory.mktemp("trained")
    write_data(folder)
    config = config_in(
        folder,
        data={part: str(folder / f"{part}.jsonl") for part in SIZES},
        model=TINY_MODEL | {"detector": "spans"},
        optimizer={"learning_rate": 4e-3, "heads": 1.0},
        train={"epochs": 8, "batch_size": 4, "precision": "bf16", "patience": 8, "checkpoint_every": 0},
    )
    return seed_folder(config), run_ranks(finetune, 1, config)[0]


def test_entities_in_entities_are_found_in_sentences_that_were_not_seen(trained):
    run = read_run(JointScoring(), trained[0].parent)
    found, true = ([overlapping(one) for one in part] for part in (run.by_seed[1], run.gold))
    right = sum(len(a & b) for a, b in zip(found, true, strict=True))
    assert sum(map(len, true)) > 100
    assert 2 * right / (sum(map(len, found)) + sum(map(len, true))) > 0.9


def test_relations_of_entities_that_share_words_are_left_out_and_the_log_says_so(trained):
    folder, _ = trained
    unlearned = sum(len(one.relations) and "bank knows" in " ".join(one.words) for one in data(folder, "train"))
    assert unlearned > 10
    assert f"cannot learn: relations of overlapping entities ({unlearned})\n" in (folder / LOG).read_text()
    predicted = read_run(JointScoring(), folder.parent).by_seed[1]
    assert sum(len(one.relations) for one in predicted) > 50
    assert not any(share_words(one.entities[r.head], one.entities[r.tail]) for one in predicted for r in one.relations)


def data(folder: Path, part: str) -> list[AnnotatedSentence]:
    return read_annotated(folder.parent.parent / f"{part}.jsonl")[0]


@pytest.mark.parametrize("given", ["raw text", "words", "annotated data"])
def test_predict_gives_the_scores_that_fine_tuning_reported(trained, tmp_path, given):
    folder, result = trained
    gold, reported = read_run(JointScoring(), folder.parent).gold, read_run(JointScoring(), folder.parent).by_seed[1]
    lines = {"raw text": " ".join, "words": lambda words: json.dumps({"tokens": words})}
    file = folder.parent.parent / "test.jsonl"
    if given in lines:
        file = tmp_path / "input.txt"
        file.write_text("".join(f"{lines[given](one.words)}\n" for one in gold))
    out = tmp_path / "found.jsonl"
    dispatch(["predict", str(folder / "model"), str(file), "--device", "cpu", "--out", str(out)])
    predicted = read_annotated(out)[0]
    scores = {measure: scores.micro.f1 for measure, scores in score(gold, predicted).items()}
    assert scores == result.test
    assert 0.5 < scores["relation_strict_f1"] < 1  # there was something to differ in
    found = [json.loads(line) for line in out.read_text().splitlines()]
    for kind in ("entities", "relations"):
        probabilities = [one["score"] for line in found for one in line[kind]]
        assert probabilities == pytest.approx([one.score for line in reported for one in getattr(line, kind)], abs=2e-4)
