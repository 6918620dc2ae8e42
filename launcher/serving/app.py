"""The HTTP interface: JSON in, what was found out. It knows neither Ray nor models, only who can ask them."""

from __future__ import annotations

from typing import Any, Protocol

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

from launcher.predict_results import as_json
from launcher.serving.guard import FAILED, Load
from launcher.serving.messages import (
    ErrorMessage,
    ExtractRequest,
    ExtractResponse,
    Health,
    ModelDescription,
    explain,
)
from launcher.serving.refusal import Refused
from launcher.serving.replica import FoundTexts
from launcher.serving.settings import Limits, ServiceSettings

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorMessage, "description": "The body is no JSON."},
    401: {"model": ErrorMessage, "description": "The token is missing or wrong."},
    404: {"model": ErrorMessage, "description": "There is no such model or path."},
    413: {"model": ErrorMessage, "description": "The request or a text is too large."},
    422: {"model": ErrorMessage, "description": "The request is not as described here."},
    503: {"model": ErrorMessage, "description": "There is too much to do: try again after Retry-After seconds."},
}


class Backend(Protocol):
    """Who has the models."""

    async def extract(self, model: str, texts: list[str], min_entity: float, min_relation: float) -> FoundTexts:
        """Entities and relations of texts; raises Refused."""

    async def describe(self, model: str) -> ModelDescription:
        """Types and settings of a model; raises Refused."""

    async def metrics(self) -> str:
        """Metrics in the text format of Prometheus; raises Refused."""


def application(backend: Backend, settings: ServiceSettings, load: Load) -> FastAPI:
    """The routes.

    Args:
        backend: to be asked.
        settings: settings of the service.
        load: current load of the service.
    """
    app = FastAPI(
        title="spe serve",
        description="Entities and relations of texts, found by models that `spe finetune` made.",
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={
            RequestValidationError: _invalid,
            HTTPException: _unknown,
            Refused: _refused,
            Exception: _failed,
        },
    )
    token = [Depends(HTTPBearer(auto_error=False, description="Checked before the body is read."))]

    @app.post("/v1/extract", response_model=ExtractResponse, responses=_ERRORS, dependencies=token)
    async def extract(request: ExtractRequest) -> Response:
        """Find entities and relations with the model that the request names, or the first."""
        return await _extract(
            backend, settings, settings.models[0] if request.model is None else request.model, request
        )

    @app.post("/v1/models/{name}/extract", response_model=ExtractResponse, responses=_ERRORS, dependencies=token)
    async def extract_with(name: str, request: ExtractRequest) -> Response:
        """Find entities and relations with a model."""
        if request.model not in (None, name):
            raise Refused(422, f"model: the path names {name!r}: give one of the two")
        return await _extract(backend, settings, name, request)

    @app.get("/v1/models", responses={401: _ERRORS[401], 503: _ERRORS[503]}, dependencies=token)
    async def models() -> list[ModelDescription]:
        """The models that answer; the first is the default."""
        return [await backend.describe(name) for name in settings.models]

    @app.get("/healthz")
    async def healthz() -> Health:
        """The service is there; its models need not be."""
        return Health(status="stopping" if settings.stopping.exists() else "ok", requests=load.requests)

    @app.get("/readyz", responses={503: _ERRORS[503]})
    async def readyz() -> Health:
        """Every model answers."""
        if settings.stopping.exists():
            raise Refused(503, "the service is ending")
        for name in settings.models:
            await backend.describe(name)
        return Health(status="ok", requests=load.requests)

    @app.get("/metrics", response_class=Response, responses={401: _ERRORS[401]}, dependencies=token)
    async def metrics() -> Response:
        """Metrics for Prometheus, those of Ray Serve among them."""
        return Response(await backend.metrics(), media_type="text/plain; version=0.0.4")

    return app


async def _extract(backend: Backend, settings: ServiceSettings, model: str, request: ExtractRequest) -> Response:
    if model not in settings.models:
        raise Refused(404, f"there is no model {model!r}; the models are: {', '.join(settings.models)}")
    texts = request.all_texts()
    _check_sizes(texts, settings.limits)
    found = await backend.extract(model, texts, request.min_entity_score, request.min_relation_score)
    head = as_json({"model": model, "version": found.version})
    body = f'{head[:-1]}, "results": [{", ".join(found.lines)}]}}'  # each is JSON already
    return Response(body.encode(), media_type="application/json")


def _check_sizes(texts: list[str], limits: Limits) -> None:
    if len(texts) > limits.texts:
        raise Refused(413, f"texts: {len(texts):,} are more than {limits.texts:,}: send fewer at a time")
    for number, text in enumerate(texts):
        if len(text) > limits.characters:
            raise Refused(
                413, f"texts.{number}: {len(text):,} characters are more than {limits.characters:,}: send it in parts"
            )


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = list(error.errors())
    if errors[0]["type"] == "json_invalid":
        place, reason = errors[0]["loc"][-1], errors[0]["ctx"]["error"].removesuffix(" at")
        return _respond(Refused(400, f"the body is no JSON: {reason[:1].lower()}{reason[1:]}, at character {place}"))
    if errors[0]["type"] == "missing" and errors[0]["loc"] == ("body",):
        return _respond(Refused(400, 'the body is empty: send JSON, such as {"text": "…"}'))
    if not _is_json(request.headers.get("content-type", "")):
        return _respond(Refused(400, "the body must be JSON, with the header Content-Type: application/json"))
    return _respond(Refused(422, explain(errors)))


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


async def _unknown(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _respond(Refused(404, f"there is no {request.url.path}: see /docs"))
    if error.status_code == 405:
        return _respond(Refused(405, f"{request.url.path} does not take {request.method}: see /docs"))
    return _respond(Refused(400, "the body is no JSON that can be read"))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _respond(error)


async def _failed(request: Request, error: Exception) -> Response:
    return _respond(FAILED)


def _respond(refused: Refused) -> Response:
    return Response(refused.body(), refused.status, refused.headers(), media_type="application/json")
