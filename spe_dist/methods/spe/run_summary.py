"""What SPE says of a run (see `methods/run_summary.py`), and settings that it warns of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spe_dist.methods.run_summary import ConfigWarning, Objective, RunSummary
from spe_dist.methods.spe.config import SpeConfig

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_SAFE_SHARE = 4  # the queue of MoCo is a quarter as long as its key encoder's memory: 256 steps and 1,000


def summarize_spe(config: SpeConfig, encoder: PretrainedConfig) -> RunSummary:
    """Which parts a run trains, and their sizes."""
    contrast, span, pair = config.cspo.weight > 0, config.span_encoder, config.pair_encoder
    spans = contrast or config.spo.weight > 0
    return RunSummary(
        method="SPE",
        paper="Wang et al., EMNLP 2020: "
        '"Pre-training Entity Relation Encoder with Intra-span and Inter-span Information"',
        trained_on="plain text",
        objectives=(
            Objective("tbo", "token boundary", config.tbo.weight),
            Objective("spo", "span permutation", config.spo.weight),
            Objective("cspo", "contrastive span pair", config.cspo.weight),
        ),
        span_encoder=span if spans else None,
        pair_encoder=pair if contrast else None,
        head_size=encoder.hidden_size if contrast and config.cspo.head else None,
        normalize=config.cspo.normalize,
        mask_unit=config.spans.mask_unit,
    )


def warnings_of_spe(config: SpeConfig) -> list[ConfigWarning]:
    """A queue so long that its oldest keys come from a key encoder of which little is left."""
    cspo, records = config.cspo, config.batch.lanes * config.batch.lane_size
    if not cspo.weight:
        return []
    steps, memory = cspo.queue_size / records, round(1 / (1 - cspo.momentum), 6)
    if steps <= memory:
        return []
    return [
        ConfigWarning(
            f"cspo.queue_size {cspo.queue_size} holds the keys of {steps:.0f} steps, but the key encoder remembers "
            f"only {memory:.0f} (cspo.momentum {cspo.momentum:g}): old keys can be recognised by their age, and "
            "cspo_loss and cspo_accuracy measure that",
            f"set cspo.queue_size to {max(int(memory * records / _SAFE_SHARE), 1)} or less",
        )
    ]
