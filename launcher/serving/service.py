"""A running service: a Ray of its own on this machine, Ray Serve on it, and an application of Serve for each model."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from cluster.security import connect
from data_shards.errors import UserError
from data_shards.files import sha256_of_file
from data_shards.pipeline.ray_start import LOCAL
from launcher.serving.local_page import read_local_page
from launcher.serving.model_source import Source, folder_of
from launcher.serving.settings import ReplicaSettings, ServiceSettings, gpu_share

_ENVIRONMENT = {
    # One loop for the router, one for requests and a model: with threads for each, a request costs twice the time.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(1 << 30),  # 4 MiB are less than what is found in a request may be
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_worker_niceness": "0",
}
_CHARACTERS_OF_VERSION = 12
_BUSY = 0.7  # batches that a replica computes at a time, on average, if there are enough of them
_UP_SECONDS, _DOWN_SECONDS = 5.0, 60.0  # of another load until replicas become more or fewer; they start in seconds
_MOST_CALLS = 100  # of a replica at a time: no limit, as batches are counted where they are collected
_KEEP_ALIVE_SECONDS = 75  # of an idle connection: longer than clients and balancers keep theirs


@dataclass(frozen=True)
class Scaling:
    """How many replicas a model has.

    Args:
        least: at any time.
        most: under load.
    """

    least: int
    most: int


@dataclass(frozen=True)
class Address:
    """Where a service listens."""

    host: str
    port: int

    @property
    def local_url(self) -> str:
        """URL of the service on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


class Service:
    """Models that answer.

    Args:
        models: name → where it comes from.
        settings: settings of requests.
        replicas: replicas of each process that computes.
        scaling: scaling of each model.
        address: to listen at.
        grace_seconds: that requests have to end.
    """

    def __init__(
        self,
        models: dict[str, Source],
        settings: ServiceSettings,
        replicas: ReplicaSettings,
        scaling: Scaling,
        address: Address,
        grace_seconds: float,
    ) -> None:
        self._models, self._settings, self._replicas = models, settings, replicas
        self._scaling, self._address, self._grace_seconds = scaling, address, grace_seconds
        self._versions: dict[str, str] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Started, until the block ends; requests that have come are answered then.

        Raises:
            UserError: Ray does not start, or a model cannot be loaded.
        """
        from launcher.serving import proxy

        os.environ["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"] = proxy.IMPORT_PATH
        os.environ.update(self._settings.environment())
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        logging.getLogger("ray.serve").setLevel(logging.CRITICAL)  # what fails is said in one line
        import ray
        from ray import serve

        connect(
            LOCAL,
            allow_unauthenticated=False,
            num_cpus=self._most_replicas(),  # cores are shared by the system, not reserved
            include_dashboard=False,
            _metrics_export_port=self._settings.metrics_port,
        )
        try:
            serve.start(
                proxy_location="HeadOnly",
                http_options={
                    "host": self._address.host,
                    "port": self._address.port,
                    "keep_alive_timeout_s": _KEEP_ALIVE_SECONDS,
                },
                logging_config={"enable_access_log": False, "log_level": "ERROR"},
            )
            for name in self._models:
                self._deploy(name)
            yield
            self._finish_requests()
            serve.shutdown()
        finally:
            ray.shutdown()

    def update(self) -> Iterator[str]:
        """Take what the folders hold now; old replicas answer until new ones do.

        Yields:
            A line about each model; one that cannot be loaded stays as it was.
        """
        for name in self._models:
            before = self._versions[name]
            try:
                self._deploy(name)
            except UserError as error:
                yield f"{name} stays as it was ({before}): {error}"
                continue
            if self._versions[name] == before:
                yield f"{name} has not changed ({before})"
                continue
            shutil.rmtree(self._copy_of(name, before), ignore_errors=True)
            yield f"{name}: {before} is replaced by {self._versions[name]}"

    def _deploy(self, name: str) -> None:
        version = self._take_copy(name)
        if version == self._versions.get(name):
            return
        self._check(name, version)
        from ray import serve

        try:
            serve.run(self._application(name, version), name=name, route_prefix=None)
        except RuntimeError as error:
            if name in self._versions:
                serve.run(self._application(name, self._versions[name]), name=name, route_prefix=None)
            reason = _last_line(error)
            raise UserError(f"{self._models[name]}: its processes do not start ({reason})") from error
        self._versions[name] = version

    def _take_copy(self, name: str) -> str:
        """So that replicas that start later have the same model, whatever becomes of the folder."""
        folder, new = folder_of(self._models[name]), Path(self._settings.folder, f"{name}.new")
        try:
            shutil.rmtree(new, ignore_errors=True)
            shutil.copytree(folder, new, ignore=shutil.ignore_patterns(".*"))
            version = version_of_files(new)
            if not self._copy_of(name, version).exists():
                new.rename(self._copy_of(name, version))
        except OSError as error:
            raise UserError(f"{folder} cannot be copied to {new.parent} ({error.strerror or error})") from error
        return version

    def _copy_of(self, name: str, version: str) -> Path:
        return Path(self._settings.folder, f"{name}-{version}")

    def _check(self, name: str, version: str) -> None:
        """Load a model in a separate process: a replica would report an error as a traceback, after several tries."""
        import ray

        check = ray.remote(num_cpus=0, max_calls=1, max_retries=0)(_reason_not_to_load)
        try:
            reason = ray.get(check.remote(str(self._copy_of(name, version)), self._on_this_machine()))
        except ray.exceptions.RayError as error:
            reason = _last_line(error)
        if reason is not None:
            shutil.rmtree(self._copy_of(name, version), ignore_errors=True)
            raise UserError(reason.replace(str(self._copy_of(name, version)), str(self._models[name])))

    def _application(self, name: str, version: str) -> Any:
        from ray import serve

        from launcher.serving.replica import Replica

        on, scaling = self._on_this_machine(), self._scaling
        replicas: dict[str, Any] = {"num_replicas": scaling.least}
        if scaling.most > scaling.least:
            replicas = {
                "autoscaling_config": {
                    "min_replicas": scaling.least,
                    "max_replicas": scaling.most,
                    "target_ongoing_requests": _BUSY,
                    "upscale_delay_s": _UP_SECONDS,
                    "downscale_delay_s": _DOWN_SECONDS,
                }
            }
        deployment = serve.deployment(Replica).options(
            **replicas,
            max_ongoing_requests=_MOST_CALLS,
            max_surge_percent=100,
            graceful_shutdown_timeout_s=self._grace_seconds,
            graceful_shutdown_wait_loop_s=0.5,
            health_check_period_s=2.0,
            ray_actor_options={"num_cpus": 1, "num_gpus": gpu_share(self._gpus(), self._most_replicas())},
            logging_config={"enable_access_log": False, "log_level": "ERROR"},
        )
        return deployment.bind(str(self._copy_of(name, version)), version, on)

    def _on_this_machine(self) -> ReplicaSettings:
        if self._replicas.device:
            return self._replicas
        return replace(self._replicas, device="cuda" if self._gpus() else "cpu")

    def _gpus(self) -> int:
        import ray

        return 0 if self._replicas.device == "cpu" else int(ray.cluster_resources().get("GPU", 0))

    def _most_replicas(self) -> int:
        """Largest number of replicas of all models: during an update one more of each model runs."""
        return len(self._models) * (self._scaling.most + 1)

    def _finish_requests(self) -> None:
        self._settings.stopping.touch()
        end = time.monotonic() + self._grace_seconds
        while time.monotonic() < end and self._requests() > 0:
            time.sleep(0.1)
        time.sleep(0.3)  # the last bytes of the last answer

    def _requests(self) -> int:
        try:
            return int(json.loads(read_local_page(f"{self._address.local_url}/healthz"))["requests"])
        except (OSError, ValueError):
            return 0


def version_of_files(folder: Path) -> str:
    """First characters of the SHA-256 of the names and contents of all files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = "".join(f"{path.relative_to(folder).as_posix()} {sha256_of_file(path)}\n" for path in files)
    return sha256(lines.encode()).hexdigest()[:_CHARACTERS_OF_VERSION]


def _reason_not_to_load(folder: str, settings: ReplicaSettings) -> str | None:
    from launcher.serving.replica import load

    try:
        load(folder, settings)
    except UserError as error:
        return str(error)
    return None


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
