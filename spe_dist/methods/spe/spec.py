"""What SPE says of itself."""

from __future__ import annotations

from spe_dist.methods.method_spec import Column, MethodSpec, Panel, on_use
from spe_dist.methods.spe.config import COUNTED, TERMS, SpeConfig
from spe_dist.methods.spe.run_summary import summarize_spe, warnings_of_spe


def _sequences(config: SpeConfig) -> str:
    views = "two views, of the pair and of the context"
    if not config.spans.whole_sentences:
        return f"each record in {views}"
    return f"each record in {views}, and whole" if config.cspo.weight else "each record whole"


SPEC = MethodSpec(
    title="SPE",
    config=SpeConfig,
    build=on_use("spe_dist.methods.spe.method:build_spe"),
    build_collate=on_use("spe_dist.methods.spe.collate:build_collate"),
    new_model=on_use("spe_dist.methods.spe.model:new_model"),
    summarize=summarize_spe,
    sequences=_sequences,
    describe=on_use("spe_dist.methods.spe.show:describe"),
    columns=(
        Column("tbo_loss", "TBO loss", "tbo {:.3f}"),
        Column("tbo_accuracy", "TBO accuracy", "{:.0%}"),
        Column("spo_loss", "SPO loss", "spo {:.3f}"),
        Column("spo_accuracy", "SPO accuracy", "{:.0%}"),
        Column("cspo_loss", "CSPO loss", "cspo {:.3f}"),
        Column("cspo_accuracy", "CSPO accuracy", "{:.0%}"),
        Column("cspo_step_accuracy", "among the step's keys"),
        Column("cspo_step_chance", "chance"),
        Column("cspo_geometry_accuracy", "same geometry"),
        Column("cspo_geometry_chance", "chance"),
        Column("cspo_layout_accuracy", "same layout"),
        Column("cspo_layout_chance", "chance"),
    ),
    panels=(
        Panel("Token boundary", ("tbo_loss",), ("tbo_accuracy",)),
        Panel("Span permutation", ("spo_loss",), ("spo_accuracy",)),
        Panel(
            "Contrast",
            ("cspo_loss",),
            ("cspo_accuracy", "cspo_step_accuracy"),
        ),
        Panel(
            "Contrast, similar views",
            ("cspo_geometry_accuracy", "cspo_geometry_chance"),
            ("cspo_layout_accuracy", "cspo_layout_chance"),
            left_label="accuracy, same geometry",
            right_label="accuracy, same layout",
        ),
    ),
    find_warnings=warnings_of_spe,
    counted=(*TERMS, *COUNTED),
    bytes_beside=on_use("spe_dist.methods.spe.footprint:bytes_beside"),
    bytes_made_again=on_use("spe_dist.methods.spe.footprint:bytes_made_again"),
    transfers=on_use("spe_dist.methods.spe.footprint:transfers"),
    try_forward=on_use("spe_dist.methods.spe.footprint:try_forward"),
)
