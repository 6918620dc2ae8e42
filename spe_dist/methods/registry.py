"""The methods on offer, and what the training loop asks of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from data_shards.manifest import Manifest
from data_shards.reader import ShardReader
from spe_dist.batches.loader import Collate
from spe_dist.config import Config
from spe_dist.engine.batch_plan import BatchPlan
from spe_dist.engine.world import World
from spe_dist.methods.about import AboutRun, Oddity
from spe_dist.methods.enpar.method import Enpar, about_enpar, new_enpar_model, require_entity_pairs
from spe_dist.methods.measures import Measures
from spe_dist.methods.spe.about import about_spe, oddities_of_spe
from spe_dist.methods.spe.method import Spe, new_spe_model
from spe_dist.methods.work import Work

if TYPE_CHECKING:
    from spe_dist.engine.deepspeed_engine import Engine


class Method(Protocol):
    """A way to pre-train; `methods/spe/method.py` is the example to read."""

    terms: Sequence[str]
    measures: Sequence[str]
    step_measures: Sequence[str]
    term_weights: Sequence[float]
    encoder_json: str

    @property
    def collate(self) -> Collate:
        """Makes batches of records."""
        ...

    @property
    def negatives(self) -> int:
        """Keys that each query of this step is compared with."""
        ...

    @property
    def model(self) -> nn.Module:
        """What the engine trains."""
        ...

    def forward(self, engine: Engine, batch: Any) -> tuple[Tensor, Tensor]:
        """Sums of losses, by term, and of measures; the batch is of its own collate."""
        ...

    def send_keys(self, world: World, plan: BatchPlan) -> None:
        """What ranks exchange while the step's last backward pass runs."""
        ...

    def after_step(self, engine: Engine) -> Tensor:
        """What follows the optimizer step; sums over this rank's records of measures that need the whole step."""
        ...

    def rehearse(self, engine: Engine, batch: Any) -> Tensor:
        """Losses of a forward that takes as much memory as any will, and leaves nothing behind."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Live tensors that a checkpoint holds beyond the engine's."""
        ...

    def model_flops(self, work: Work) -> int:
        """What the model has to compute in some steps of all ranks."""
        ...

    def report(self, sums: Measures) -> dict[str, float | str]:
        """What to log."""
        ...


# Built from the run's configuration, its dataset and `device=`.
METHODS: dict[str, type[Any]] = {"spe": Spe, "enpar": Enpar}
_ABOUT: dict[str, Callable[..., AboutRun]] = {"spe": about_spe, "enpar": about_enpar}
_MODELS: dict[str, Callable[..., nn.Module]] = {
    "spe": lambda config, encoder, types: new_spe_model(config, encoder),
    "enpar": lambda config, encoder, types: new_enpar_model(config, encoder, types=types),
}
_ODDITIES: dict[str, Callable[..., list[Oddity]]] = {"spe": oddities_of_spe}
_ONTONOTES_TYPES = 18
_REQUIRE: dict[str, Callable[[ShardReader], None]] = {"enpar": require_entity_pairs}


def oddities_of(config: Config) -> list[Oddity]:
    """What is odd about a configuration; it can be trained."""
    find = _ODDITIES.get(config.method)
    return find(config) if find is not None else []


def require_data(config: Config, reader: ShardReader) -> None:
    """Check that a dataset has what a configuration's method learns from, beyond text.

    Raises:
        UserError: it has not.
    """
    require = _REQUIRE.get(config.method)
    if require is not None:
        require(reader)


def model_without_weights(config: Config, encoder: PretrainedConfig, manifest: Manifest | None) -> nn.Module:
    """What a configuration trains, on the meta device.

    Args:
        config: of the run.
        encoder: sizes of its sentence encoder.
        manifest: of its dataset; without one, methods of entities take the number of types of the ENPAR paper.
    """
    types = len(manifest.entity_types) if manifest is not None else _ONTONOTES_TYPES
    with torch.device("meta"):
        return _MODELS[config.method](config, encoder, types)


def about_run(config: Config, encoder: PretrainedConfig) -> AboutRun:
    """What a configuration trains, on a sentence encoder of the given sizes."""
    return _ABOUT[config.method](config, encoder)
