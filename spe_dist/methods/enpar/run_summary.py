"""What ENPAR says of a run of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spe_dist.methods.enpar.config import EnparConfig
from spe_dist.methods.run_summary import Objective, RunSummary

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def summarize_enpar(config: EnparConfig, encoder: PretrainedConfig) -> RunSummary:
    """Which parts a run trains, and their sizes; of the sentence encoder's none are asked."""
    pairs = config.acd.weight > 0 or config.pp.weight > 0
    return RunSummary(
        method="ENPAR",
        paper="Wang et al., EACL 2021: "
        '"ENPAR: Enhancing Entity and Entity Pair Representations for Joint Entity Relation Extraction"',
        trained_on="text with entities",
        objectives=(
            Objective("met", "masked entity typing", config.met.weight),
            Objective("mep", "masked entity prediction", config.mep.weight),
            Objective("acd", "adversarial context discrimination", config.acd.weight),
            Objective("pp", "permutation prediction", config.pp.weight),
        ),
        span_encoder=config.entity_encoder if pairs or config.met.weight > 0 else None,
        context_encoder=config.context_encoder if pairs else None,
        pair_encoder=config.pair_encoder if pairs else None,
    )
