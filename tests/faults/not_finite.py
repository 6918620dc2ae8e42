"""Pre-train as `launcher/pretrain.py` does, but with a loss that is not a number on the last rank at one step.

    python -m tests.faults.not_finite --config RECIPE          under Ray; the same under torchrun

$NOT_FINITE is `STEP` for a loss that is wrong whenever that step is made, or `STEP:FILE` for one that is wrong once: it
leaves FILE behind.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cluster import ray_train
from launcher import pretrain
from launcher.run_command import run_command

SETTING = "NOT_FINITE"
_train_rank = ray_train._train_rank


def train_rank(loop_config: dict[str, Any]) -> None:
    """What Ray calls on a rank, in place of the function it is named after."""
    spoil_a_loss()
    _train_rank(loop_config)


def spoil_a_loss() -> None:
    """From here on, in this process: the forward of the step gives no number."""
    from spe_dist.methods.spe.method import SpeWithContrast as Spe

    step, _, once = os.environ[SETTING].partition(":")
    forward = Spe.forward

    def spoiled(spe: Any, engine: Any, batch: Any) -> Any:
        losses, metrics = forward(spe, engine, batch)
        is_step = int(spe.queue.enqueued) == (int(step) - 1) * spe.config.batch.lanes * spe.config.batch.lane_size
        if not is_step or engine.world.rank != engine.world.size - 1 or (once and Path(once).exists()):
            return losses, metrics
        if once:
            Path(once).touch()
        return losses * float("nan"), metrics

    Spe.forward = spoiled  # type: ignore[method-assign]


if __name__ == "__main__":
    if "TORCHELASTIC_RUN_ID" in os.environ:
        spoil_a_loss()
    else:
        from tests.faults import not_finite  # by its name, for ranks import it; this module is __main__

        ray_train._train_rank = not_finite.train_rank
    run_command(pretrain.main)
