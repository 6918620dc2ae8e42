"""Several fine-tunings at the same time: each a Ray task on its share of the cores, in a process of its own.

Ray starts one again if its machine or process is gone; it goes on from its newest checkpoint.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
import ray.exceptions

from cluster.joined_ray import joined_ray, process_environment
from cluster.run_flags import RunFlag, is_set, set_flag
from cluster.waiting import WaitingLines
from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.stop_requests import first_request
from spe_dist.finetuning.config import FinetuneConfig, SeedsOnRayConfig
from spe_dist.finetuning.folder import LOG, Result, seed_folder
from spe_dist.recipe import config_values
from spe_dist.tasks import finetuning_config

LOGGER = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5
_RESTARTS = 3  # of a fine-tuning whose process died


@dataclass(frozen=True)
class Shares:
    """How many fine-tunings go on at the same time, and what each has."""

    parallel: int
    cores: int
    gpus: int


@dataclass
class Outcome:
    """How the fine-tunings ended, by name.

    Args:
        results: of those that came to their end.
        failures: why others did not, in one line.
        stopped: a signal asked to stop before all had ended.
    """

    results: dict[str, Result] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    stopped: bool = False


def share_out(seeds: int, cores: Sequence[int], gpus: int, cluster: SeedsOnRayConfig) -> Shares:
    """Divide a cluster among seeds, or other fine-tunings. PURE.

    Raises:
        UserError: more GPUs are wanted than there are.
    """
    per_seed = cluster.gpus_per_seed if cluster.gpus_per_seed is not None else min(gpus, 1)
    if per_seed and not gpus:
        raise UserError("cluster.gpus_per_seed is 1 but Ray finds no GPU: remove the setting to train on the CPU")
    places = gpus if per_seed else sum(cores)
    parallel = max(1, min(seeds, places, cluster.parallel or seeds))
    # The most cores of a seed with which all of them find a machine.
    fitting = [share for share in range(1, max(cores) + 1) if sum(there // share for there in cores) >= parallel]
    return Shares(parallel, max(fitting, default=1), per_seed)


def finetune_on_ray(
    configs: Mapping[str, FinetuneConfig],
    *,
    tell: Callable[[str], None],
    kind: str = "seed",
    wanted: Callable[[str], bool] = lambda _: True,
) -> Outcome:
    """Run fine-tunings on the Ray cluster that their configuration or the environment names, or on one started here.

    Args:
        configs: of each, by what the person calls it, with absolute paths; one seed each, and all on the same cluster.
        tell: gets a line for the person.
        kind: what each is, for these lines.
        wanted: asked by name when there is room for the next; one that is not wanted any more is passed over.

    Raises:
        UserError: Ray cannot be joined, or is lost.
    """
    cluster = next(iter(configs.values())).cluster
    here = len(os.sched_getaffinity(0))
    outcome = Outcome()
    asked = threading.Event()
    with (
        joined_ray(cluster.address, allow_unauthenticated=cluster.allow_unauthenticated, cores=here),
        first_request(asked.set),
    ):
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cores = [int(machine.get("CPU", 0)) for machine in machines]
        gpus = int(sum(machine.get("GPU", 0) for machine in machines))
        shares = share_out(len(configs), cores, gpus, cluster)
        tell(
            f"{counted(len(configs), kind)}, {shares.parallel} at the same time, each on "
            f"{counted(shares.cores, 'core')}{' and a GPU' if shares.gpus else ''}"
            f"{f'; none of {gpus} GPUs is used, as cluster.gpus_per_seed is 0' if gpus and not shares.gpus else ''}"
        )
        try:
            each = {"CPU": shares.cores} | ({"GPU": shares.gpus} if shares.gpus else {})
            lines = WaitingLines(f"{kind}s need", each, tell)
            waiting = ((name, config) for name, config in configs.items() if wanted(name))
            _run(waiting, shares, outcome, asked, lines, tell)
        except ray.exceptions.RayError as error:
            raise UserError(
                f"lost the Ray cluster ({type(error).__name__}): when it is back, the same command "
                "resumes from the last checkpoints"
            ) from error
    return outcome


def _run(
    waiting: Iterator[tuple[str, FinetuneConfig]],
    shares: Shares,
    outcome: Outcome,
    asked: threading.Event,
    lines: WaitingLines,
    tell: Callable[[str], None],
) -> None:
    task = ray.remote(
        num_cpus=shares.cores,
        num_gpus=shares.gpus,
        max_calls=1,  # each has its process to itself
        max_retries=_RESTARTS,
        runtime_env={"env_vars": process_environment(shares.cores, gpus=shares.gpus)},
    )(_finetune_seed)
    running: dict[Any, tuple[str, FinetuneConfig]] = {}
    while True:
        lines.look(waits=bool(running) and not is_set(RunFlag.BEGUN))
        if asked.is_set():
            outcome.stopped = True
            for call in running:
                ray.cancel(call, force=True)
            return
        while len(running) < shares.parallel and (following := next(waiting, None)) is not None:
            running[task.remote(config_values(following[1]))] = following
        if not running:
            return
        for call in ray.wait(list(running), timeout=_LOOK_SECONDS)[0]:
            name, config = running.pop(call)
            try:
                outcome.results[name] = ray.get(call)
            except ray.exceptions.RayError as error:
                outcome.failures[name] = _reason(error, config)
                tell(f"{name} failed: {outcome.failures[name]}")


def _reason(error: ray.exceptions.RayError, config: FinetuneConfig) -> str:
    mistake = getattr(error, "cause", None)  # the error itself speaks in tracebacks
    if isinstance(mistake, UserError):
        return str(mistake)
    lines = str(error).strip().splitlines()
    return f"{lines[-1] if lines else type(error).__name__} (see {seed_folder(config) / LOG})"


def _finetune_seed(values: dict[str, Any]) -> Result:
    set_flag(RunFlag.BEGUN)
    from spe_dist.finetuning.loop import finetune  # with torch and DeepSpeed, which the driver needs not

    return finetune(finetuning_config(values, source="launcher"))
