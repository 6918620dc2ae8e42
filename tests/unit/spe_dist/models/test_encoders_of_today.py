"""From a checkpoint of each kind of encoder and its own kind of tokenizer to predictions, by the real code."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForMaskedLM,
    DebertaV2Config,
    ModernBertConfig,
    PretrainedConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from data_shards.pipeline.build_config import PairConfig
from data_shards.pipeline.pairs import pair_sentences
from data_shards.text.word_pieces import WordPieces
from launcher.cli import dispatch
from spe_dist.documents.marked_facts import MARKERS
from spe_dist.export.export_run import export_run
from spe_dist.finetuning.folder import LOG, seed_folder
from spe_dist.finetuning.loop import finetune
from spe_dist.methods.erica.markers import PIECES
from spe_dist.objectives.masked_language_modelling import MaskedLanguageModelling
from spe_dist.recipe import config_from_values, config_yaml, load_recipe
from spe_dist.train.dry_run import describe_run
from spe_dist.train.loop import train
from spe_dist.train.run_diff import compare_runs
from tests.distributed.ranks import run_ranks
from tests.exactness.runs import configure, metrics_of, run
from tests.unit.data_shards.derive_here import derived_here
from tests.unit.data_shards.tokenizer import test_tokenizer_folder as folders
from tests.unit.data_shards.tokenizer.test_tokenizer_folder import modern_bytes, unigram
from tests.unit.spe_dist.extraction.tiny import SENTENCES
from tests.unit.spe_dist.extraction.tiny_finetuning import config_in
from tests.unit.spe_dist.fact_sentences import fact_sentences
from tests.unit.spe_dist.random_documents import random_documents, write_records
from tests.unit.spe_dist.sentence_relations import test_task as sentence_relations
from tests.unit.spe_dist.tiny_run import ROOT, SMALL_ENPAR, write_dataset

SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "vocab_size": 1000,
}  # fmt: skip
CONFIGS: dict[str, PretrainedConfig] = {
    "modernbert": ModernBertConfig(
        **SIZES, local_attention=8, global_attn_every_n_layers=2, pad_token_id=0, cls_token_id=1, sep_token_id=2,
        bos_token_id=1, eos_token_id=2,
    ),
    "deberta-v2": DebertaV2Config(
        **SIZES, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=8, share_att_key=True,
        norm_rel_ebd="layer_norm", position_biased_input=False,
    ),
    "xlm-roberta": XLMRobertaConfig(**SIZES, max_position_embeddings=514, type_vocab_size=1, pad_token_id=1),
}  # fmt: skip
METHODS = {"modernbert": "spe", "deberta-v2": "mlm", "xlm-roberta": "mlm"}


def checkpoint(kind: str, folder: Path) -> Path:
    """As people publish them, with the head of masked language modelling."""
    torch.manual_seed(0)
    AutoModelForMaskedLM.from_config(CONFIGS[kind]).save_pretrained(folder)
    tokenizer = modern_bytes() if kind == "modernbert" else unigram(deberta=kind == "deberta-v2")
    tokenizer.save(str(folder / "tokenizer.json"))
    if kind == "modernbert":
        names = {f"{role}_token": f"[{role.upper()}]" for role in ("cls", "sep", "mask", "pad", "unk")}
        settings = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def pretrain_and_finetune(pretraining, finetuning):
    train(pretraining)
    export_run(Path(pretraining.run_folder))
    finetune(finetuning)


@pytest.mark.parametrize("kind", CONFIGS)
def test_pretrained_exported_finetuned_and_predicting(kind: str, tmp_path: Path) -> None:
    encoder = checkpoint(kind, tmp_path / "checkpoint")
    write_dataset(tmp_path / "shards", sentences=64, tokenizer=str(encoder))
    pretraining = configure(
        tmp_path / "shards", tmp_path / "runs", method=METHODS[kind], encoder={"name_or_path": str(encoder)},
        train={"steps": 2, "precision": "bf16"}, optimizer={"warmup_steps": 1},
    )  # fmt: skip
    exported = Path(pretraining.run_folder, "export")
    how = "padded: the attention of deberta-v2 does not" if kind == "deberta-v2" else "packed: layers run without"
    assert how in describe_run(pretraining)
    task = config_in(
        tmp_path, start={"tokenizer": None, "pretrained": str(exported)}, train={"epochs": 1, "batch_size": 2}
    )
    run_ranks(pretrain_and_finetune, 1, pretraining, task)
    log = Path(pretraining.run_folder, "logs", "rank-0.log").read_text()
    assert ("padded: the attention of deberta-v2" in log) is (kind == "deberta-v2")
    head = f"loaded the head of masked language modelling from {encoder}"
    assert (head in log) is (METHODS[kind] == "mlm")
    assert [line["step"] for line in metrics_of(Path(pretraining.run_folder))] == [1, 2]
    assert json.loads((exported / "config.json").read_text())["model_type"] == kind
    assert "loaded: sentence encoder of" in (seed_folder(task) / LOG).read_text()
    dispatch([
        "predict", str(seed_folder(task) / "model"), str(tmp_path / "data.jsonl"), "--device", "cpu",
        "--out", str(tmp_path / "out.jsonl"),
    ])  # fmt: skip
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [tuple(one["tokens"]) for one in found] == [one.words for one in SENTENCES]
    saved = WordPieces.load(str(seed_folder(task) / "model"))
    assert saved.fingerprint == WordPieces.load(str(encoder)).fingerprint


def roberta(folder: Path) -> tuple[str, int]:
    """A checkpoint with as many rows as its byte-level vocabulary has pieces, and their number."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    folders.train(tokenizer, trainers.BpeTrainer(
        vocab_size=900, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))  # fmt: skip
    torch.manual_seed(0)
    size = tokenizer.get_vocab_size()
    AutoModelForMaskedLM.from_config(
        RobertaConfig(**SIZES | {"vocab_size": size}, max_position_embeddings=514, type_vocab_size=1, pad_token_id=1)
    ).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder), size


def test_marker_rows_lie_behind_a_byte_level_vocabulary_in_every_other_method(tmp_path: Path) -> None:
    """Two steps of ENPAR, of ERICA with markers, of CP and of MTB, and their exports."""
    encoder, size = roberta(tmp_path / "checkpoint")
    recipes = {"enpar": "enpar_debug", "erica": "erica_debug", "cp": "cp_minilm_cpu", "mtb": "mtb_minilm_cpu"}
    write_dataset(tmp_path / "enpar", sentences=64, entities=True, tokenizer=encoder)
    documents = random_documents(32, 3, vocab_size=size)
    write_records(tmp_path / "erica", documents, shards=1, word_pieces=encoder, documents={"max_entities": 64})
    cut = {"documents_cut": {"build": {"language": "en"}}}
    write_records(tmp_path / "cp", fact_sentences(40, 3), shards=1, word_pieces=encoder, **cut)
    with derived_here():
        pair_sentences(PairConfig(str(tmp_path / "cp"), tmp_path / "mtb", most_sentences=3))
    small = SMALL_ENPAR | {
        "encoder": {"name_or_path": encoder, "dropout": 0.0},
        "batch": {"lanes": 2, "lane_size": 4, "lanes_per_forward": 2},
        "train": {"steps": 2, "log_every": 1, "precision": "bf16"},
    }
    configs = {}
    for method, recipe in recipes.items():
        values = yaml.safe_load(config_yaml(load_recipe(ROOT / f"launcher/recipes/{recipe}.yaml")))
        own = {"run": {"folder": str(tmp_path / "runs"), "name": method}, "data": {"shards": str(tmp_path / method)}}
        values |= {key: values[key] | keys for key, keys in (small | own).items() if key in values}
        configs[method] = config_from_values(
            values | ({"pooling": "marker"} if method == "erica" else {}), source=method
        )
    run(1, list(configs.values()))
    rows = {"enpar": 0, "erica": PIECES, "cp": len(MARKERS), "mtb": len(MARKERS)}
    for method, config in configs.items():
        metrics = metrics_of(Path(config.run_folder))
        assert [line["step"] for line in metrics] == [1, 2] and all(0 < line["loss"] < 100 for line in metrics), method
        exported = json.loads((export_run(Path(config.run_folder)) / "config.json").read_text())
        assert (exported["model_type"], exported["vocab_size"]) == ("roberta", size + rows[method])


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_task_of_items_starts_from_a_checkpoint(kind: str, tmp_path: Path) -> None:
    """One that puts markers around entities: new rows of the word embeddings."""
    encoder, data = checkpoint(kind, tmp_path / "checkpoint"), tmp_path / "data.txt"
    here = [f"--encoder.name-or-path={encoder}", f"--start.tokenizer={encoder}", "--train.epochs=1"]
    config = sentence_relations.config_in(tmp_path, f"--dev={data}", *here)
    run_ranks(finetune, 1, config)
    model, out = seed_folder(config) / "model", tmp_path / "out.jsonl"
    assert ("padded: the attention" in (seed_folder(config) / LOG).read_text()) is (kind == "deberta-v2")
    dispatch(["predict", str(model), str(data), "--device", "cpu", "--out", str(out)])
    assert len(out.read_text().splitlines()) == 18


@pytest.mark.distributed
def test_ranks_at_stage_3_give_padded_groups_the_same_run(tmp_path: Path) -> None:
    """Where each forward is one group: else ranks would gather the weights unequally often, and wait for ever."""
    encoder = checkpoint("deberta-v2", tmp_path / "checkpoint")
    write_dataset(tmp_path / "shards", sentences=300, tokenizer=str(encoder))
    alone, together = (
        configure(
            tmp_path / "shards", tmp_path / f"stage {stage}", method="mlm", encoder={"name_or_path": str(encoder)},
            train={"steps": 3, "zero_stage": stage}, batch={"lane_size": 8},
        )
        for stage in (1, 3)
    )  # fmt: skip
    run(1, [alone])
    run(3, [together])  # of 4 lanes: two ranks have an empty forward, of one piece
    comparison = compare_runs(Path(alone.run_folder), Path(together.run_folder), rtol=1e-5)
    assert comparison.difference is None, str(comparison.difference)


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_head_of_a_checkpoint_gives_its_logits(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = AutoModelForMaskedLM.from_config(CONFIGS[kind]).eval()
    for parameter in model.parameters():
        parameter.data.normal_()
    model.tie_weights()
    model.save_pretrained(tmp_path)
    head = MaskedLanguageModelling(32, model.get_input_embeddings(), dropout=0.0)
    head.start_from(str(tmp_path))
    with torch.no_grad():
        states = model.base_model(input_ids=torch.arange(9)[None]).last_hidden_state
        expected = model(input_ids=torch.arange(9)[None]).logits
        torch.testing.assert_close(head.decoder(head.block(states)), expected, rtol=1e-4, atol=1e-4)
