"""A tiny new encoder that learns a few sentences by heart."""

from pathlib import Path

import torch

from data_shards.annotated.unified import write_unified
from spe_dist.extraction.config import ExtractionConfig
from spe_dist.finetuning import loop
from spe_dist.finetuning.data import read_data
from spe_dist.finetuning.loop import finetune
from spe_dist.finetuning.start import Start, load_start
from spe_dist.recipe import checked_config, read_values
from tests.unit.spe_dist.extraction.tiny import SENTENCES
from tests.unit.spe_dist.tiny_run import DEBUG_VOCAB, ROOT

CPU = torch.device("cpu")


TINY_MODEL = {
    "span_encoder": {"kernel_sizes": [2, 3, 4], "channels": 8, "size": 24},
    "context_encoder": {"kernel_sizes": [2, 3, 4], "channels": 8, "size": 24},
    "pair_encoder": "attention",
    "attention": {"attention_size": 16, "position_size": 4},
    "relation_sizes": [24, 16],
    "dropout": 0.0,
}


def config_in(folder: Path, **sections: dict) -> ExtractionConfig:
    """A tiny encoder that learns `SENTENCES` by heart."""
    values = read_values(ROOT / "launcher" / "recipes" / "finetune_cpu.yaml")
    data = folder / "data.jsonl"
    if not data.exists():
        write_unified(SENTENCES, data)
    small = {
        "run": {"folder": str(folder), "name": "tiny"},
        "data": {"train": str(data), "dev": str(data), "test": str(data)},
        "start": {"tokenizer": str(DEBUG_VOCAB)},
        "encoder": {
            "name_or_path": None, "layers": 2, "hidden_size": 32, "heads": 2, "intermediate_size": 48,
            "max_positions": 64, "dropout": 0.0,
        },
        "model": TINY_MODEL,
        "optimizer": {"learning_rate": 5e-3, "heads": 1.0},
        "sampling": {"gold_epochs": 3},
        "train": {"epochs": 40, "batch_size": 2, "precision": "fp32", "patience": 30},
    }  # fmt: skip
    for changes in (small, sections):
        values |= {key: values.get(key, {}) | change for key, change in changes.items()}
    return checked_config(ExtractionConfig, values, source="test")


def start_of(config: ExtractionConfig) -> Start:
    """What a run begins as."""
    task = config.build_task()
    return load_start(task, task.describe(SENTENCES, SENTENCES, language="en"))


def finetune_until(config: ExtractionConfig, epochs: int) -> None:
    """Die in the epoch after these, before it is saved."""
    save = loop._Training._save

    def save_or_die(training) -> None:
        if training.progress.epochs > epochs:
            raise KeyboardInterrupt
        save(training)

    loop._Training._save = save_or_die
    try:
        finetune(config)
    except KeyboardInterrupt:
        pass
    finally:
        loop._Training._save = save


def read_data_of(config):
    return read_data(config.build_task())
