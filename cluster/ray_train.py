"""A run under Ray Train: Ray places the ranks and connects them; the rest is as under torchrun."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.exceptions
import ray.train
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from cluster.asked_by_driver import AskedByDriver
from cluster.elastic_watch import ElasticWatch
from cluster.joined_ray import joined_ray, process_environment
from cluster.restarts import RestartPolicy, Restarts, user_error_in
from cluster.run_flags import RunFlag, is_set, set_flag
from cluster.submitted_job import with_absolute_paths
from cluster.waiting import WaitForPlaces, have_places
from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.files import require_writable
from data_shards.stop_requests import end_as_it_stands, first_request
from spe_dist.config import ClusterConfig, Config
from spe_dist.engine.world import World
from spe_dist.recipe import config_from_values, config_values
from spe_dist.train.loop import Summary, train
from spe_dist.train.run_storage import newest_step
from spe_dist.train.stop_signal import remove_stale_stop_file

LOGGER = logging.getLogger(__name__)

_LOOK_SECONDS = 0.5  # a signal wakes whoever waits only now and then


def train_on_ray(config: Config) -> Summary:
    """Run on the Ray cluster that the configuration or the environment names, or on one started here.

    Args:
        config: the run; its folders must be absolute (`with_absolute_folders`), as ranks start elsewhere.

    Raises:
        UserError: whatever a rank, or the launch itself, found wrong.
    """
    folder = Path(config.run_folder)
    require_writable(folder)  # else Ray's own notes about the run, which go there too, fail for no reason it names
    _hurry(config.cluster)
    remove_stale_stop_file(folder)
    with connected(config.cluster):
        trainer = TorchTrainer(
            _train_rank,
            train_loop_config={"values": config_values(config)},
            torch_config=TorchConfig(backend="nccl" if config.cluster.gpus_per_worker else "gloo"),
            scaling_config=_scaling(config.cluster),
            run_config=RunConfig(
                name=config.run.name,
                storage_path=config.run.folder,
                # Without limit: it counts all failures of a run that may take weeks, ours those in a row.
                failure_config=FailureConfig(max_failures=-1),
                callbacks=[RestartPolicy(Restarts(config.cluster.max_failures), partial(newest_step, config))],
                worker_runtime_env={"env_vars": rank_environment(config.cluster)},
            ),
        )
        try:
            _fit(trainer, config)
        except ray.train.TrainingFailedError as error:
            raise _mend(error, config) from error
        except ray.exceptions.RayError as error:  # the head is gone, or the machine of Ray's controller of the run
            reason = " ".join(str(error).split()).partition(". ")[0][:200]
            raise UserError(
                f"lost the Ray cluster ({type(error).__name__}: {reason}): when it is back, the same "
                "command resumes from the last checkpoint"
            ) from error
    # From our own files: what Ray would say of the run is what it was told, and it is told nothing of checkpoints.
    step = newest_step(config)
    return Summary(folder, step, finished=step >= config.train.steps)


def _scaling(cluster: ClusterConfig) -> ScalingConfig:
    fixed = cluster.min_workers in (None, cluster.workers)
    return ScalingConfig(
        num_workers=cluster.workers if fixed else (cluster.min_workers, cluster.workers),
        elastic_resize_monitor_interval_s=cluster.resize_seconds,
        use_gpu=cluster.gpus_per_worker > 0,
        resources_per_worker=_resources(cluster),
    )


def _hurry(cluster: ClusterConfig) -> None:
    """Ray Train's patience, shortened; what the person has set stays."""
    settings = {
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": 0.5,
        "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": cluster.hang_seconds,
        # How long to wait for the places of all ranks. Ray Train hears of a lost node up to 20 s late, and until then
        # asks for a place on it.
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": 10,
    }
    for name, value in settings.items():
        os.environ.setdefault(name, str(value))


def _fit(trainer: TorchTrainer, config: Config) -> None:
    """Fit in a thread, while this one hears requests to stop; in the main one, Ray would hear Ctrl-C, and abort.

    Ends the process as asked if no rank has anything to save.
    """
    fitted: Future[Any] = Future()
    threading.Thread(target=_fit_into, args=(fitted, trainer), name="fit", daemon=True).start()
    asked = threading.Event()
    cluster = config.cluster
    waiting = WaitForPlaces(cluster.min_workers or cluster.workers, _resources(cluster))
    try:
        with first_request(asked.set):
            while not fitted.done() and not asked.is_set():
                wait([fitted], timeout=_LOOK_SECONDS)
            if asked.is_set():
                _ask_ranks_to_stop(config)
            fitted.result()
    finally:
        waiting.close()


def _fit_into(fitted: Future[Any], trainer: TorchTrainer) -> None:
    try:
        fitted.set_result(trainer.fit())
    except BaseException as error:
        fitted.set_exception(error)


def _ask_ranks_to_stop(config: Config) -> None:
    if not have_places() or not is_set(RunFlag.BEGUN):
        step = newest_step(config)
        end_as_it_stands(  # Ray 2.60 crashes if it is shut down while another thread waits in `fit`
            "stopped on request before the first step of this start, so there was nothing to save; the same command "
            f"{f'resumes after step {step}' if step else 'starts it again'} ({config.run_folder})"
        )
    LOGGER.warning("stop requested: saving first (a second request ends at once)")
    set_flag(RunFlag.STOP)


def rank_environment(cluster: ClusterConfig) -> dict[str, str]:
    """Variables of a rank's process."""
    return process_environment(cluster.cpus_per_worker, gpus=cluster.gpus_per_worker)


def _train_rank(loop_config: dict[str, Any]) -> None:
    config = config_from_values(loop_config["values"], source="launcher")
    os.environ["LOCAL_RANK"] = str(ray.train.get_context().get_local_rank())
    cluster = config.cluster
    watch = ElasticWatch(
        max_workers=cluster.workers, per_worker=_resources(cluster), resize_seconds=cluster.resize_seconds
    )
    if not World.from_environment().is_first:
        train(config, asked_by_launcher=watch)
        return
    asked = AskedByDriver()
    train(config, asked_by_launcher=lambda: max(watch(), asked()))


def with_absolute_folders(config: Config) -> Config:
    """The same run with absolute folders, resolved here.

    Raises:
        UserError: a folder is relative and this is a submitted job, whose working folder is a copy.
    """
    return with_absolute_paths(
        config, paths=("run.folder", "data.shards", "data.cache"), names=("encoder.name_or_path",)
    )


def _resources(cluster: ClusterConfig) -> dict[str, float]:
    resources: dict[str, float] = {"CPU": cluster.cpus_per_worker}
    return resources | ({"GPU": cluster.gpus_per_worker} if cluster.gpus_per_worker else {})


@contextmanager
def connected(cluster: ClusterConfig, *, require_resources: bool = True) -> Iterator[None]:
    """Joined to the Ray that the configuration or the environment names, or to one started here.

    Args:
        cluster: which, and what ranks need.
        require_resources: whether ranks must find their place there.

    Raises:
        UserError: it cannot be joined, asks for no token, or a Ray started here would be too small.
    """
    cores = max(os.cpu_count() or 1, cluster.workers * cluster.cpus_per_worker)
    with joined_ray(cluster.address, allow_unauthenticated=cluster.allow_unauthenticated, cores=cores) as started_here:
        logging.getLogger("ray.train").setLevel(logging.ERROR)
        if require_resources:
            _require_resources(cluster, started_here=started_here)
        yield


def _require_resources(cluster: ClusterConfig, *, started_here: bool) -> None:
    """A cluster that can grow may still get what it lacks; one started here cannot, and Ray would wait for ever."""
    there = ray.cluster_resources()
    if there.get("GPU") and not cluster.gpus_per_worker and not started_here:
        LOGGER.warning(
            "the run uses none of the cluster's %d GPUs: add --cluster.gpus-per-worker 1 --train.precision bf16",
            there["GPU"],
        )
    for kind, each in _resources(cluster).items():
        workers = cluster.min_workers or cluster.workers
        if there.get(kind, 0) >= each * workers:
            continue
        asked, found = f"{counted(workers, 'worker')} with {counted(int(each), kind)} each", int(there.get(kind, 0))
        lack = f"{asked}, but there are {found} in all"
        if started_here:
            raise UserError(
                f"{lack} on this machine: lower --cluster.workers or --cluster.{kind.lower()}s-per-worker, or name a "
                "cluster with --cluster.address"
            )
        LOGGER.warning("waiting for the cluster: %s", lack)


def _mend(error: ray.train.TrainingFailedError, config: Config) -> Exception:
    """The UserError that a rank raised, if one did; else where to read what happened."""
    mistake = user_error_in(error)
    if mistake is not None:
        return UserError(str(mistake))
    detail = str(error).strip().splitlines()
    return UserError(
        f"a rank failed: {detail[-1] if detail else error!r}; see {config.run_folder}/logs for details. "
        "The same command resumes from the last checkpoint"
    )
