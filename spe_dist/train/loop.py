"""The training loop; what it works with is set up by `session.py`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spe_dist.config import Config
from spe_dist.engine.schedule import learning_rate
from spe_dist.train.profiler import traced
from spe_dist.train.run_folder import PROFILE, hold_log, log_path
from spe_dist.train.session import Session, open_session
from spe_dist.train.stop_signal import Ask, StopSignal, nothing_asked
from spe_dist.train.watchdog import watched

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """How a run ended: steps made in all, and whether that was all it was asked for."""

    folder: Path
    step: int
    finished: bool


def train(config: Config, *, asked_by_launcher: Callable[[], Ask] = nothing_asked) -> Summary:
    """Train until the last step, or until asked to stop; begin at the newest checkpoint of the run, if it has one.

    Args:
        config: configuration of the run.
        asked_by_launcher: looked at after every step.

    Raises:
        UserError: whatever the person at the keyboard can fix, in one line.
    """
    hold_log()
    try:
        with open_session(config) as session:
            return _train(session, asked_by_launcher)
    except Exception:
        LOGGER.exception("the run ends here")
        raise


def _train(session: Session, asked_by_launcher: Callable[[], Ask]) -> Summary:
    config, folder, world = session.config, session.folder, session.world
    stop, step = StopSignal(folder, world, asked_by_launcher=asked_by_launcher), session.first_step
    LOGGER.info("training on %d ranks from step %d", world.size, step)
    with (
        traced(folder / PROFILE, world, steps=config.train.profile_steps) as traced_step,
        watched(log_path(folder, world), seconds=config.cluster.hang_seconds) as alive,
    ):
        for batches in session.batches():
            session.take_step(batches, _learning_rate(config, step))
            traced_step()
            alive()
            step += 1
            ask, last = stop.poll(), step == config.train.steps
            if last or step % config.train.log_every == 0:  # not when stopping: the sums so far are in the checkpoint
                session.write_metrics(step, learning_rate=_learning_rate(config, step - 1), while_waiting=alive)
            if last or ask or step % config.train.checkpoint_every == 0:
                session.save(step, required=last or ask is Ask.STOP, while_waiting=alive)
            if last or ask is Ask.STOP:
                stop.obeyed()
                break
    return Summary(folder, step, finished=step >= config.train.steps)


def _learning_rate(config: Config, step: int) -> float:
    optimizer = config.optimizer
    return learning_rate(
        step, peak=optimizer.learning_rate, warmup_steps=optimizer.warmup_steps, steps=config.train.steps
    )
