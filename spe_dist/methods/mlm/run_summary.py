"""What masked language modelling says of a run of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spe_dist.methods.mlm.config import MaskedLanguageConfig
from spe_dist.methods.run_summary import Objective, RunSummary

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_BERT = (
    "masked language modelling",
    'Devlin et al., NAACL 2019: "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", '
    "without next-sentence prediction",
)
_SPANBERT = (
    "SpanBERT",
    'Joshi et al., TACL 2020: "SpanBERT: Improving Pre-training by Representing and Predicting Spans"',
)


def summarize_masked_language(config: MaskedLanguageConfig, encoder: PretrainedConfig) -> RunSummary:
    """Which objectives a run trains; the sentence encoder is all that it keeps."""
    method, paper = _SPANBERT if config.masking.unit == "spans" else _BERT
    return RunSummary(
        method=method,
        paper=paper,
        trained_on="text",
        objectives=(
            Objective("mlm", "masked language modelling", config.mlm.weight),
            Objective("sbo", "span boundary objective", config.sbo.weight),
        ),
        pooling="mean",
    )
