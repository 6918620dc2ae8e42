"""The learning rate of every step."""

from __future__ import annotations


def learning_rate(step: int, *, peak: float, warmup_steps: int, steps: int) -> float:
    """Linear warm-up, then linear decay to zero.

    Updates count from 0. Update t of the warm-up has peak · (t + 1) / warmup_steps: the first update already moves the
    weights and the last one of the warm-up has the peak. The first update that would come after the run has 0.

    Args:
        step: number of the update, t.
        peak: the largest learning rate.
        warmup_steps: updates of the warm-up, may be 0.
        steps: updates of the whole run.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * max(0, steps - step) / max(1, steps - warmup_steps)
