"""What MTB says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spe_dist.methods.method_spec import Column, MethodSpec, Panel, on_use
from spe_dist.methods.mtb.config import TERMS, MtbConfig
from spe_dist.methods.mtb.data import require_pairs
from spe_dist.methods.run_summary import Objective, RunSummary

if TYPE_CHECKING:  # they import torch, and a recipe is read without
    from collections.abc import Callable

    from transformers import PretrainedConfig

    from data_shards.shards.record import Records
    from spe_dist.methods.mtb.collate import PairCollate


def _summarize(config: MtbConfig, encoder: PretrainedConfig) -> RunSummary:
    return RunSummary(
        method="MTB",
        paper='Baldini Soares et al., ACL 2019: "Matching the Blanks: Distributional Similarity for Relation Learning"',
        trained_on="pairs of sentences with entities",
        objectives=(
            Objective("mtb", "matching the blanks", config.mtb.weight),
            Objective("mlm", "masked language modelling", config.mlm.weight),
        ),
    )


def _describe(collate: PairCollate, record: Records, step: int, lane: int, piece: Callable[[int], str]) -> str:
    from spe_dist.documents.marked_facts import describe_marked

    return describe_marked(collate.marking, record, step, lane, piece)


SPEC = MethodSpec(
    title="MTB",
    config=MtbConfig,
    build=on_use("spe_dist.methods.mtb.method:build_mtb"),
    build_collate=on_use("spe_dist.methods.mtb.collate:build_collate"),
    new_model=on_use("spe_dist.methods.mtb.model:new_model"),
    summarize=_summarize,
    sequences=lambda config: "both sentences of each record once, with the entities of a fact marked",
    describe=_describe,
    columns=(
        Column("mtb_loss", "MTB loss", "mtb {:.3f}"),
        Column("mtb_accuracy", "MTB accuracy", "{:.0%}"),
        Column("mtb_chance", "chance"),
        Column("mlm_loss", "MLM loss", "mlm {:.3f}"),
        Column("mlm_accuracy", "MLM accuracy", "{:.0%}"),
    ),
    panels=(
        Panel("Matching the blanks", ("mtb_loss",), ("mtb_accuracy", "mtb_chance")),
        Panel("Masked language modelling", ("mlm_loss",), ("mlm_accuracy",)),
    ),
    require_data=require_pairs,
    counted=TERMS,
)
