"""Names of metrics: which are the machine's, and in which section of TensorBoard and of trackers each is shown."""

from __future__ import annotations

from collections.abc import Mapping

HELD_OUT = "held_out_"  # how names begin of what was measured on held-out records
GRADIENTS = "gradients_"  # and of the norm of an objective's gradient
SHARE = "_share"  # how the name of its share of the step's gradient ends

# What a machine made of a step, not what the step came to.
OF_THE_MACHINE = frozenset(
    (
        "records_per_second",
        "pieces_per_second",
        "seconds_per_step",
        "model_tflops_per_second",
        "mfu",
        "padding_saved",  # of the forwards, which are the machine's: lanes_per_forward and ranks change no result
        "waiting_share",
        "saving_share",
        "saved_step",  # at the time of writing, which a thread is doing
        "failed_saves",
        "memory_gib",
        "elapsed_seconds",
        f"{HELD_OUT}seconds",
    )
)

# Sections of TensorBoard: by how a metric's name begins, by the whole name, and for all others.
_BEGINNINGS = (HELD_OUT, GRADIENTS, "probe_", "dev_", "best_")
_SECTIONS = {
    "learning_rate": "optimizer",
    "gradient_norm": "optimizer",
    **dict.fromkeys(OF_THE_MACHINE, "speed"),
    **dict.fromkeys(("epoch", "records_seen", "pieces_seen", "elapsed_seconds", "saved_step", "failed_saves"), "run"),
}
_OTHERS = "objective"


def curve_name(metric: str) -> str:
    """What TensorBoard calls a metric: its section, a slash and its name."""
    for beginning in _BEGINNINGS:
        if metric.startswith(beginning):
            return f"{beginning[:-1]}/{metric.removeprefix(beginning)}"
    return f"{_SECTIONS.get(metric, _OTHERS)}/{metric}"


def curve_points(metrics: Mapping[str, float | int | str | None]) -> dict[str, float]:
    """The points of a line of metrics: all of its numbers but the step, by the names of their curves."""
    numbers = {name: value for name, value in metrics.items() if name != "step" and isinstance(value, int | float)}
    return {curve_name(name): value for name, value in numbers.items()}
