"""The training loop, in the order of the paper's Figure 6; what it works with is set up by `session.py`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from spe_dist.config import Config
from spe_dist.engine.schedule import learning_rate
from spe_dist.train.profiler import traced
from spe_dist.train.run_folder import PROFILE
from spe_dist.train.session import Session, open_session
from spe_dist.train.stop_signal import StopSignal

LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Summary:
    """How a run ended: steps made in all, and whether that was all it was asked for."""

    folder: Path
    step: int
    finished: bool


def train(config: Config) -> Summary:
    """Train until the last step, or until asked to stop; begin at the newest checkpoint of the run, if it has one.

    Raises:
        UserError: whatever the person at the keyboard can mend, in one line.
    """
    try:
        return _train(config)
    except Exception:
        LOGGER.exception("the run ends here")
        raise


def _train(config: Config) -> Summary:
    session = open_session(config)
    try:
        return _train_session(session)
    finally:
        session.close()


def _train_session(session: Session) -> Summary:
    config = session.config
    stop, step = StopSignal(session.folder, session.world), session.first_step
    stopping = False
    with traced(session.folder / PROFILE, session.world, steps=config.train.profile_steps) as traced_step:
        for batches in session.batches():
            session.take_step(batches, _learning_rate(config, step))
            traced_step()
            step += 1
            stopping = stop.poll()
            last = step == config.train.steps
            if last or step % config.train.log_every == 0:  # not when stopping: the sums so far are in the checkpoint
                session.write_metrics(step, learning_rate=_learning_rate(config, step - 1))
            if last or stopping or step % config.train.checkpoint_every == 0:
                session.save(step, required=last or stopping)
            if stopping:
                stop.obeyed()
                break
    return Summary(session.folder, step, finished=step >= config.train.steps)


def _learning_rate(config: Config, step: int) -> float:
    optimizer = config.optimizer
    return learning_rate(
        step, peak=optimizer.learning_rate, warmup_steps=optimizer.warmup_steps, steps=config.train.steps
    )
