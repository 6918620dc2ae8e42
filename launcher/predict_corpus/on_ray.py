"""A corpus on a Ray cluster: parts are read by tasks, units predicted by actors that hold an extractor each.

    parts ──read_part──▶ one block per unit ──actors──▶ shard + marker

Every machine needs inputs, model and output folder under the same paths.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from data_shards.errors import UserError
from data_shards.pipeline.unit_pipeline import Row, rows_of_their_own, running_ray
from launcher.predict_corpus.plan import Plan, Unit, read_part
from launcher.predict_corpus.shard import Shard, find_shard, load_extractor, write_shard

_READERS_CPUS = 0.25
Finished = tuple[Shard, int, bool]


@dataclass(frozen=True)
class Workers:
    """Actors that predict.

    Args:
        count: how many.
        cpus: CPUs of each actor.
        gpus: GPUs of each actor; a fraction if several actors share one.
    """

    count: int
    cpus: float
    gpus: float

    @classmethod
    def of(cls, count: int | None, resources: Mapping[str, float], *, device: str | None) -> Workers:
        """One on each GPU or, without GPUs, on each core but the one that reads.

        Args:
            count: if somebody asks for one.
            resources: resources of the cluster, as Ray names them.
            device: if somebody asks for one: "cpu" or "cuda".

        Raises:
            UserError: GPUs are asked for, and there are none; or there are no cores.
        """
        if not resources.get("CPU"):
            raise UserError("this Ray cluster has no cores: start it with some (ray start --num-cpus)")
        cores, gpus = resources["CPU"], int(resources.get("GPU", 0)) if device != "cpu" else 0
        if device == "cuda" and not gpus:
            raise UserError("--device cuda: this Ray cluster has no GPUs: start it where there are some, or remove it")
        workers = count or gpus or max(int(cores) - 1, 1)
        share = 1 / math.ceil(workers / gpus) if gpus else 0.0
        return cls(workers, min(1.0, (cores - _READERS_CPUS) / workers), share)

    @property
    def device(self) -> str:
        """Device type of each worker."""
        return "cuda" if self.gpus else "cpu"


@contextmanager
def workers_on_ray(count: int | None, device: str | None) -> Iterator[Workers]:
    """A running Ray and the actors that it has room for.

    Args:
        count: if somebody asks for one.
        device: if somebody asks for one.

    Raises:
        UserError: Ray cannot be started or joined, or has no such device.
    """
    if device not in (None, "cpu", "cuda"):
        raise UserError(f"--device {device}: with --ray, each worker chooses its GPU: give cpu or cuda")
    if count is not None and count < 1:
        raise UserError(f"--workers must be at least 1, not {count}")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # or Ray Data's actors are said to be hard to restart
    import ray

    with running_ray(count):
        yield Workers.of(count, ray.cluster_resources(), device=device)


def predict_on_ray(plan: Plan, workers: Workers) -> Iterator[Finished]:
    """Predict a corpus.

    Args:
        plan: plan of the corpus.
        workers: to predict with.

    Yields:
        A shard, the bytes of the inputs that it is made from, and whether it was there; in the order of their end.

    Raises:
        UserError: a worker met one, or failed.
    """
    import ray.data
    import ray.exceptions

    rows = rows_of_their_own([{"part": number} for number in range(len(plan.parts))])
    rows.context.enable_progress_bars = False  # launcher.predict_corpus.progress tells more
    units = rows.flat_map(partial(_read, plan), num_cpus=_READERS_CPUS)
    finished = units.map_batches(
        _Predictor,
        fn_constructor_args=(plan,),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=workers.count),
        num_cpus=workers.cpus,
        num_gpus=workers.gpus,
    )
    try:
        for row in finished.iter_rows():
            if row["error"]:
                raise UserError(row["error"])
            yield Shard.of_json(row["shard"]), int(row["size"]), bool(row["reused"])
    except ray.exceptions.RayError as error:
        lines = str(getattr(error, "cause", None) or error).strip().splitlines()
        reason = lines[-1] if lines else type(error).__name__
        raise UserError(f"a worker of the Ray cluster failed ({reason}): the same command resumes") from error


def _read(plan: Plan, row: Row) -> Iterator[Row]:
    try:
        for unit in read_part(plan, int(row["part"])):
            yield unit.as_row() | {"error": ""}
    except UserError as error:  # it would come to the driver in a traceback
        yield {"about": "", "lines": b"", "error": str(error)}


class _Predictor:
    """An actor of Ray Data."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._extractor: Any = None

    def __call__(self, rows: dict[str, Any]) -> dict[str, list[Any]]:
        """What became of a unit."""
        row = {name: values[0] for name, values in rows.items()}
        result: dict[str, Any] = {"error": str(row["error"]), "shard": "", "size": 0, "reused": False}
        if not result["error"]:
            try:
                result |= self._finish(Unit.of_row(row))
            except UserError as error:
                result["error"] = str(error)
        return {name: [value] for name, value in result.items()}

    def _finish(self, unit: Unit) -> dict[str, Any]:
        shard = find_shard(self._plan, unit)
        reused = shard is not None
        if shard is None:
            self._extractor = self._extractor or load_extractor(self._plan)
            shard = write_shard(self._plan, unit, self._extractor, lambda _: None)
        return {"shard": shard.as_json(), "size": unit.size, "reused": reused}
