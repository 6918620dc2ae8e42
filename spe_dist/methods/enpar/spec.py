"""What ENPAR says of itself."""

from __future__ import annotations

from spe_dist.methods.enpar.config import COUNTED, TERMS, EnparConfig
from spe_dist.methods.enpar.data import require_entity_pairs
from spe_dist.methods.enpar.run_summary import summarize_enpar
from spe_dist.methods.method_spec import Column, MethodSpec, Panel, on_use


def _sequences(config: EnparConfig) -> str:
    perturbed = config.acd.perturbed if config.acd.weight else 0
    permuted = config.pp.permutations - 1 if config.pp.weight else 0
    hidden = bool(config.met.weight or config.mep.weight)
    parts = [
        "once as it is" if perturbed or permuted else "",
        f"in up to {perturbed} perturbed copies (ACD)" if perturbed else "",
        f"in up to {permuted} other orders (PP)" if permuted else "",
        "once with hidden entities (MET, MEP)" if hidden else "",
    ]
    return f"each record {', '.join(filter(None, parts))}"


SPEC = MethodSpec(
    title="ENPAR",
    config=EnparConfig,
    build=on_use("spe_dist.methods.enpar.method:build_enpar"),
    build_collate=on_use("spe_dist.methods.enpar.collate:build_collate"),
    new_model=on_use("spe_dist.methods.enpar.model:new_model"),
    summarize=summarize_enpar,
    sequences=_sequences,
    describe=on_use("spe_dist.methods.enpar.show:describe"),
    columns=(
        Column("met_loss", "MET loss", "met {:.2f}"),
        Column("met_accuracy", "MET accuracy", "{:.0%}"),
        Column("met_hidden_accuracy", "of hidden ones"),
        Column("mep_loss", "MEP loss", "mep {:.2f}"),
        Column("mep_accuracy", "MEP accuracy", "{:.0%}"),
        Column("acd_loss", "ACD loss", "acd {:.2f}"),
        Column("acd_accuracy", "ACD accuracy", "{:.0%}"),
        Column("pp_loss", "PP loss", "pp {:.2f}"),
        Column("pp_accuracy", "PP accuracy", "{:.0%}"),
        Column("pp_moved_accuracy", "without the identity"),
    ),
    panels=(
        Panel("Masked entity typing", ("met_loss",), ("met_accuracy", "met_hidden_accuracy")),
        Panel("Masked entity prediction", ("mep_loss",), ("mep_accuracy",)),
        Panel("Adversarial context discrimination", ("acd_loss",), ("acd_accuracy",)),
        Panel("Permutation prediction", ("pp_loss",), ("pp_accuracy", "pp_moved_accuracy")),
    ),
    require_data=require_entity_pairs,
    counted=(*TERMS, *COUNTED),
)
