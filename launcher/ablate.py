"""`spe ablate`: `spe compare-pretraining` with the ablations of the SPE paper unless another recipe is named."""

from __future__ import annotations

from launcher.compare_pretraining import main as compare_pretraining

DEFAULT = "ablations_spe_cpu"


def main(arguments: list[str]) -> None:
    """Run `spe ablate`; see `compare_pretraining.main`."""
    named = any(argument.partition("=")[0] == "--config" for argument in arguments)
    compare_pretraining(arguments if named else ["--config", DEFAULT, *arguments], prog="spe ablate")
