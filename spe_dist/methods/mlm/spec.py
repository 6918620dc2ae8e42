"""What masked language modelling says of itself."""

from __future__ import annotations

from spe_dist.methods.method_spec import Column, MethodSpec, Panel, on_use
from spe_dist.methods.mlm.config import TERMS, MaskedLanguageConfig
from spe_dist.methods.mlm.run_summary import summarize_masked_language

SPEC = MethodSpec(
    title="MLM",
    config=MaskedLanguageConfig,
    build=on_use("spe_dist.methods.mlm.method:build_masked_language"),
    build_collate=on_use("spe_dist.methods.mlm.collate:build_collate"),
    new_model=on_use("spe_dist.methods.mlm.model:new_model"),
    summarize=summarize_masked_language,
    sequences=lambda config: f"each record once, with masked {config.masking.unit}",
    describe=on_use("spe_dist.methods.mlm.show:describe"),
    columns=(
        Column("mlm_loss", "MLM loss", "mlm {:.3f}"),
        Column("mlm_accuracy", "MLM accuracy", "{:.0%}"),
        Column("sbo_loss", "SBO loss", "sbo {:.3f}"),
        Column("sbo_accuracy", "SBO accuracy", "{:.0%}"),
    ),
    panels=(
        Panel("Masked language modelling", ("mlm_loss",), ("mlm_accuracy",)),
        Panel("Span boundary", ("sbo_loss",), ("sbo_accuracy",)),
    ),
    counted=TERMS,
)
