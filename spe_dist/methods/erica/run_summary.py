"""What ERICA says of a run of its own, and settings that it warns of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from data_shards.counted import counted
from spe_dist.methods.erica.config import EricaConfig
from spe_dist.methods.run_summary import ConfigWarning, Objective, RunSummary

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_ERICA = (
    "Qin et al., ACL 2021: "
    '"ERICA: Improving Entity and Relation Understanding for Pre-trained Language Models via Contrastive Learning"'
)
_CP = 'Peng et al., EMNLP 2020: "Learning from Context or Names? An Empirical Study on Neural Relation Extraction"'
_FEW_DOCUMENTS = 16  # of which a quarter of the facts find no other of their relation


def summarize_erica(config: EricaConfig, encoder: PretrainedConfig) -> RunSummary:
    """Which objectives a run trains; the sentence encoder is all that it keeps."""
    is_cp = config.pooling == "fact_marker"
    return RunSummary(
        method="CP" if is_cp else "ERICA",
        paper=_CP if is_cp else _ERICA,
        trained_on="sentences with a fact" if is_cp else "documents with entities and relations",
        objectives=(
            Objective("ed", "entity discrimination", config.ed.weight),
            Objective("rd", "relation discrimination", config.rd.weight),
            Objective("mlm", "masked language modelling", config.mlm.weight),
        ),
        # Vectors of markers ask for marked text, which exported models do not make.
        pooling="mean" if config.pooling == "mean" else None,
        markers=config.pooling == "marker",
    )


def warnings_of_erica(config: EricaConfig) -> list[ConfigWarning]:
    """Too few documents to find two facts of a relation in."""
    batch, halved = config.batch, 2 if config.ed.weight else 1
    documents = batch.lane_size // halved * (batch.lanes if config.rd.scope == "step" else 1)
    if not config.rd.weight or documents > _FEW_DOCUMENTS:
        return []
    place = "step" if config.rd.scope == "step" else "lane"
    return [
        ConfigWarning(
            f"relation discrimination compares the facts of only {counted(documents, 'document')} of a {place}: few "
            "will find another fact of their relation",
            "raise batch.lanes or batch.lane_size" + ("" if place == "step" else ", or set rd.scope to step"),
        )
    ]
