"""Whole fine-tunings of a tiny new extractor, each in a process of its own kind (DeepSpeed, one rank)."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from transformers import AutoModel, AutoTokenizer

from data_shards.annotated.unified import write_unified
from spe_dist.extraction.model.encoded_sentences import encode_sentences
from spe_dist.extraction.predict.extractor_card import extractor_card
from spe_dist.extraction.predict.extractor_folder import load_extractor
from spe_dist.extraction.predict.prediction import predict
from spe_dist.extraction.scores.diagnostics import diagnose
from spe_dist.extraction.scores.joint_scoring import JointScoring
from spe_dist.extraction.scores.scoring import score
from spe_dist.extraction.scores.type_rules import TypeRules, relate
from spe_dist.finetuning.folder import Origin, Result
from spe_dist.finetuning.predictions import read_run
from spe_dist.finetuning.score_report import report_run
from spe_dist.train.run_log import read_metrics
from tests.unit.spe_dist.extraction.tiny import LABELS, SENTENCES, sentence
from tests.unit.spe_dist.extraction.tiny_finetuning import (
    CPU,
    TINY_MODEL,
    config_in,
    read_data_of,
)
from tests.unit.spe_dist.tiny_run import DEBUG_VOCAB

SCORING = JointScoring()


def test_a_few_sentences_are_learned_by_heart(learned):
    config, result = learned
    perfect = {"entity_f1": 1.0, "relation_f1": 1.0, "relation_strict_f1": 1.0}
    assert (result.dev, result.test) == (perfect, perfect)
    metrics = read_metrics(Path(config.run_folder) / "seed-1")
    assert [line["epoch"] for line in metrics] == list(range(1, 41))
    assert metrics[-1]["loss"] < metrics[0]["loss"] / 10
    assert metrics[0]["gold_probability"] == 1 > metrics[5]["gold_probability"]


def test_predictions_are_files_that_can_be_scored_again(learned):
    config, _ = learned
    for folder in (Path(config.run_folder), Path(config.run_folder) / "dev"):
        run = read_run(SCORING, folder)
        assert [s.words for s in run.gold] == [s.words for s in SENTENCES]
        for gold, predicted in zip(run.gold, run.by_seed[1], strict=True):
            assert set(predicted.entities) == set(gold.entities)
            assert triples(predicted) == triples(gold)


def test_rules_on_types_are_judged_with_what_was_found(learned):
    config, result = learned
    rules = TypeRules.of(SENTENCES)
    for folder in (Path(config.run_folder), Path(config.run_folder) / "dev"):
        assert read_run(SCORING, folder).training_facts == {1: rules}
    for rule in ("majority", "best"):
        f1 = score(SENTENCES, relate(SENTENCES, getattr(rules, rule)))["relation_strict_f1"].micro.f1
        assert result.diagnostics["dev"][f"{rule}_relation_strict_f1"] == pytest.approx(f1)
    assert "one-line rule: types related more often than not" in report_run(SCORING, Path(config.run_folder))[0]


def test_the_model_has_a_card(learned):
    config, result = learned
    model = Path(config.run_folder) / "seed-1" / "model"
    card = (model / "README.md").read_text()
    assert "| entity_f1 | 100.00 | 100.00 |" in card
    error = result.diagnostics["test"]["relations_calibration_error"]
    assert f"| relation scores: calibration error (ECE) | {error:.3f} | {error:.3f} |" in card  # dev is test here
    assert "| relation scores: AUC of right against wrong | - | - |" in card  # all are right
    assert "| share of unrelated pairs of gold entities that get a relation | 0.000 | 0.000 |" in card
    assert "| train | `data.jsonl` | 5 | 9 | 5 |" in card
    assert "| entities | `LOC`, `ORG`, `PER` |" in card
    assert "All weights started as new ones. It was fine-tuned for" in card
    assert "are tagged" in card and "encoders as in SPE (Wang et al., EMNLP 2020" in card
    assert result.start.loaded == () and result.start.new[:2] == ("sentence encoder", "span encoder")
    assert "| 0.3 | 1.000 | 1.000 | 1.000 | 1.000 |" in card  # least score; all are right and all are found
    assert "| PER | works | ORG | 2 |" in card and "more, in" not in card  # all of the five facts
    assert f"after epoch {result.best_epoch}, the best on dev" in card
    assert str(config.run.folder) not in card  # it may be published
    front = yaml.safe_load(card.split("---")[1])
    assert front["pipeline_tag"] == "token-classification"
    assert {path.stat().st_mode & 0o777 for path in model.iterdir()} == {0o644}


def test_the_card_says_which_architecture_it_is_and_which_types_are_related(tmp_path):
    kinds = [f"T{number:02}" for number in range(23)]
    sentences = [sentence("a b", f"0-1:{kind} 1-2:END", "0>1:rel") for kind in [*kinds, "T21"]]
    write_unified(sentences, tmp_path / "data.jsonl")
    model = {"detector": "spans", "pair_encoder": "concatenation"}
    config, cards = config_in(tmp_path, model=TINY_MODEL | model), []
    for constraints in (True, False):
        changed = replace(config, model=replace(config.model, type_constraints=constraints))
        data = read_data_of(changed)
        diagnostics = {"dev": diagnose(sentences, sentences, TypeRules.of(sentences))}
        result = Result(1, 3, 2, {}, None, diagnostics, Origin("encoder", (), ()))
        cards.append(extractor_card(changed, data, result, {}))
    assert (
        "All short spans" in cards[0] and "as in ENPAR (Wang et al., EACL 2021" in cards[0] and "SPE (" not in cards[0]
    )
    assert "| 0.5 | - | - | - | - |" in cards[0]  # gold entities have no scores
    assert re.findall(r"^\| (T\d\d) \| rel \| END \| (\d) \|$", cards[0], re.MULTILINE) == [
        ("T21", "2"), *((kind, "1") for kind in kinds[:19])
    ]  # fmt: skip
    assert "and 3 more, in `extractor.json`." in cards[0]
    assert "Any relation is predicted between entities of any types." in cards[1] and "| rel |" not in cards[1]


def test_what_the_card_says_to_do_works(learned):
    config, _ = learned
    model = Path(config.run_folder) / "seed-1" / "model"
    program = re.search(r"```python\n(.*?)```", (model / "README.md").read_text(), re.DOTALL)[1]
    found: dict = {}
    exec(program.replace("FOLDER", str(model)), found)
    assert [entity.text for entity in found["found"].entities] == ["Marie Curie", "Warsaw"]
    assert AutoModel.from_pretrained(model).config.hidden_size == 32
    assert AutoTokenizer.from_pretrained(model)("Warsaw").input_ids


def triples(one):
    return {(one.entities[r.head], one.entities[r.tail], r.type) for r in one.relations}


def test_predictions_do_not_depend_on_batch_size_or_windows_that_hold_all(learned):
    config, _ = learned
    model, word_pieces = load_extractor(Path(config.run_folder) / "seed-1" / "model")
    sentences = [*SENTENCES, sentence(""), *SENTENCES[::-1]] * 2
    encoded = encode_sentences(sentences, LABELS, word_pieces, max_pieces=64)
    predictions = [predict(model, encoded, batch_size=size, device=CPU) for size in (1, 3, 100)]
    assert predictions[0] == predictions[1] == predictions[2]
    assert Counter(len(one.entities) for one in predictions[0])[3] == 8
    assert predict(model, encode_sentences([], LABELS, word_pieces, max_pieces=64), batch_size=4, device=CPU) == []


def test_long_sentences_are_predicted_in_windows(learned):
    config, _ = learned
    model, word_pieces = load_extractor(Path(config.run_folder) / "seed-1" / "model")
    long = sentence(" ".join(word for one in SENTENCES for word in one.words))
    (found,) = predict(model, encode_sentences([long], LABELS, word_pieces, max_pieces=24), batch_size=4, device=CPU)
    assert found.words == long.words
    assert len(found.entities) > 4
    for relation in found.relations:
        assert relation.head < len(found.entities) > relation.tail


def test_raw_text_is_cut_by_the_rules_of_the_language_that_the_model_will_predict_by(tmp_path):
    text = {"text": "L'ami d'Ada vit là.", "entities": [{"type": "Peop", "start": 8, "end": 11}]}
    (tmp_path / "text.jsonl").write_text(json.dumps(text) + "\n")
    words = {}
    for language in ("en", "fr"):
        places = {"train": str(tmp_path / "text.jsonl"), "dev": str(tmp_path / "text.jsonl"), "test": None}
        start = {"language": language, "tokenizer": str(DEBUG_VOCAB)}
        data = read_data_of(config_in(tmp_path, data=places, start=start))
        (words[language],) = (sentence.words for sentence in data.train)
    assert words["fr"] == ("L'", "ami", "d'", "Ada", "vit", "là", ".") != words["en"]


def test_offsets_count_what_the_configuration_says(tmp_path):
    text = {"text": "🎉🎉 Ada came.", "entities": [{"type": "Peop", "start": 5, "end": 8}]}
    (tmp_path / "text.jsonl").write_text(json.dumps(text) + "\n")
    places = {"train": str(tmp_path / "text.jsonl"), "dev": str(tmp_path / "text.jsonl"), "test": None}
    start = {"tokenizer": str(DEBUG_VOCAB)}
    for offsets, word in (("characters", "came"), ("utf16", "Ada")):
        data = read_data_of(config_in(tmp_path, data=places | {"offsets": offsets}, start=start))
        (found,) = ((one.words, one.entities) for one in data.train)
        assert found[0][found[1][0].word_end - 1] == word


def test_labels_are_those_of_all_the_training_data_whatever_the_fraction(tmp_path):
    config = config_in(tmp_path)
    data = read_data_of(replace(config, data=replace(config.data, fraction=0.2)))
    assert len(data.train) == 1
    assert data.description.labels == LABELS
    assert np.isin(data.train[0].words, [word for one in SENTENCES for word in one.words]).all()
