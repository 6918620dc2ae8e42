"""The application in the HTTP proxy of Ray Serve, and how it asks the replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import ray.exceptions
from ray import serve
from ray.serve.exceptions import RayServeException
from ray.util.metrics import Counter, Histogram
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from launcher.serving.app import application
from launcher.serving.batches import Batches, Full
from launcher.serving.guard import Guard, Load
from launcher.serving.local_page import read_local_page
from launcher.serving.messages import ModelDescription
from launcher.serving.refusal import Refused
from launcher.serving.replica import Asked, FoundTexts
from launcher.serving.settings import ServiceSettings

IMPORT_PATH = f"{__name__}.middlewares"  # for Serve, in RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH
_DIED = (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError)
_TRIES = 4  # of a request whose replica dies; asking twice changes nothing
_READY_SECONDS = 10.0
_SECONDS = [0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0]  # of the histogram
_SIZES = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]
_PUBLISHED = ("ray_spe_", "ray_serve_")


def middlewares() -> list[Middleware]:
    """What Serve puts around its own application when it starts a proxy."""
    return [Middleware(_Service, ServiceSettings.from_environment())]


class _Service:
    """ASGI application that replaces Serve's own, whose routes are not needed."""

    def __init__(self, app: ASGIApp, settings: ServiceSettings) -> None:
        load = Load()
        requests = Counter("spe_requests", "Requests answered.", ("route", "status"))
        seconds = Histogram("spe_request_seconds", "Seconds until the answer.", _SECONDS, ("route",))

        def observe(route: str, status: int, took: float) -> None:
            requests.inc(1, {"route": route, "status": str(status)})
            seconds.observe(took, {"route": route})

        self._guard = Guard(application(ServeBackend(settings), settings, load), settings, load, observe)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._guard(scope, receive, send)


class ServeBackend:
    """Asks the replicas of Serve's applications, which have the names of the models.

    Args:
        settings: settings of the service.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._handles: dict[str, Any] = {}
        self._texts = Counter("spe_texts", "Texts read.", ("model",))
        sizes = Histogram("spe_batch_texts", "Texts of a batch.", _SIZES, ("model",))
        batching = settings.batching
        self._batches: dict[str, Batches[Asked, FoundTexts]] = {
            model: Batches(
                partial(self._extract, model),
                lambda asked: len(asked.texts),
                most=batching.texts,
                at_once=batching.at_once,
                wait_seconds=batching.wait_seconds,
                most_waiting=batching.queue,
                observe=partial(sizes.observe, tags={"model": model}),
            )
            for model in settings.models
        }

    async def extract(self, model: str, texts: list[str], min_entity: float, min_relation: float) -> FoundTexts:
        """What is in texts.

        Args:
            model: its name.
            texts: to read.
            min_entity: least score of an entity.
            min_relation: least score of a relation.

        Raises:
            Refused: there is too much to do, or no replica answers in time.
        """
        seconds = self._settings.limits.seconds
        try:
            async with asyncio.timeout(seconds):
                found = await self._batches[model](Asked(texts, min_entity, min_relation))
        except Full as error:
            raise Refused(503, f"too many requests wait for {model}: try again", retry_after=1) from error
        except TimeoutError as error:
            raise _late(model, seconds) from error
        self._texts.inc(len(texts), {"model": model})
        return found

    async def _extract(self, model: str, batch: list[Asked]) -> list[FoundTexts]:
        return await self._ask(model, lambda handle: handle.extract.remote(batch), self._settings.limits.seconds)

    async def describe(self, model: str) -> ModelDescription:
        """What a model tells apart.

        Args:
            model: its name.

        Raises:
            Refused: no replica answers in time.
        """
        description = await self._ask(model, lambda handle: handle.describe.remote(), _READY_SECONDS)
        return ModelDescription(name=model, **description)

    async def metrics(self) -> str:
        """What Ray publishes of this service on this machine.

        Raises:
            Refused: Ray does not answer.
        """
        try:
            text = await asyncio.to_thread(read_local_page, f"http://127.0.0.1:{self._settings.metrics_port}/metrics")
        except OSError as error:
            raise Refused(503, "Ray publishes no metrics yet: try again", retry_after=5) from error
        lines = (line for line in text.splitlines() if line.removeprefix("# HELP ").removeprefix("# TYPE ")
                 .startswith(_PUBLISHED))  # fmt: skip
        return "".join(f"{line}\n" for line in lines)

    async def _ask(self, model: str, call: Callable[[Any], Any], seconds: float) -> Any:
        try:
            async with asyncio.timeout(seconds):
                for _ in range(_TRIES - 1):
                    try:
                        return await call(await self._handle(model))
                    except _DIED:
                        continue
                return await call(await self._handle(model))
        except TimeoutError as error:
            raise _late(model, seconds) from error
        except (RayServeException, *_DIED) as error:
            raise Refused(503, f"{model} does not answer: try again", retry_after=5) from error

    async def _handle(self, model: str) -> Any:
        if model not in self._handles:
            self._handles[model] = await asyncio.to_thread(serve.get_app_handle, model)
        return self._handles[model]


def _late(model: str, seconds: float) -> Refused:
    return Refused(503, f"{model} did not answer within {seconds:g} seconds: try again", retry_after=5)
