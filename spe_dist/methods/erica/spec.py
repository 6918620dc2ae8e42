"""What ERICA says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spe_dist.methods.erica.config import COUNTED, TERMS, EricaConfig
from spe_dist.methods.erica.run_summary import summarize_erica, warnings_of_erica
from spe_dist.methods.method_spec import Column, MethodSpec, Panel, on_use

if TYPE_CHECKING:  # it imports torch, and a recipe is read without
    from data_shards.shards.reader import ShardReader


def _sequences(config: EricaConfig) -> str:
    if config.pooling == "fact_marker":
        return "each sentence of a record once, with the entities of one fact marked"
    if config.ed.weight and (config.rd.weight or config.mlm.weight):
        return "each record once, every second one behind a question: a relation and its head (ED)"
    return "each record once" + (", behind a question: a relation and its head (ED)" if config.ed.weight else "")


def _require_documents(reader: ShardReader) -> None:
    reader.manifest.require_documents(reader.location)


SPEC = MethodSpec(
    title="ERICA",
    config=EricaConfig,
    build=on_use("spe_dist.methods.erica.method:build_erica"),
    build_collate=on_use("spe_dist.methods.erica.collate:build_collate"),
    new_model=on_use("spe_dist.methods.erica.model:new_model"),
    summarize=summarize_erica,
    sequences=_sequences,
    describe=on_use("spe_dist.methods.erica.show:describe"),
    columns=(
        Column("ed_loss", "ED loss", "ed {:.3f}"),
        Column("ed_accuracy", "ED accuracy", "{:.0%}"),
        Column("ed_chance", "chance"),
        Column("ed_nearest", "nearest mention"),
        Column("rd_loss", "RD loss", "rd {:.3f}"),
        Column("rd_accuracy", "RD accuracy", "{:.0%}"),
        Column("rd_disjoint_accuracy", "with other entities"),
        Column("rd_chance", "chance"),
        Column("mlm_loss", "MLM loss", "mlm {:.3f}"),
        Column("mlm_accuracy", "MLM accuracy", "{:.0%}"),
        Column("probe_ed_hits_at_1", "probe: ED"),
        Column("probe_ed_hits_at_1_without_prefix", "without the relation"),
        Column("probe_rd_1_nn", "probe: RD, nearest"),
        Column("probe_rd_p_at_10", "P@10"),
    ),
    panels=(
        Panel("Entity discrimination", ("ed_loss",), ("ed_accuracy", "ed_nearest")),
        Panel(
            "Relation discrimination",
            ("rd_loss",),
            ("rd_accuracy", "rd_disjoint_accuracy"),
        ),
        Panel("Masked language modelling", ("mlm_loss",), ("mlm_accuracy",)),
        Panel(
            "Questions about held-out documents",
            ("probe_ed_hits_at_1", "probe_ed_hits_at_1_without_prefix"),
            ("probe_rd_1_nn", "probe_rd_p_at_10"),
            left_label="ED, Hits@1",
            right_label="RD, 1-NN",
        ),
    ),
    find_warnings=warnings_of_erica,
    require_data=_require_documents,
    counted=(*TERMS, *COUNTED),
    bytes_beside=on_use("spe_dist.methods.erica.footprint:bytes_beside"),
    transfers=on_use("spe_dist.methods.erica.footprint:transfers"),
)
