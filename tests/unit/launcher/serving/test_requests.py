"""Requests to the application of `spe serve`, without Ray: answers of `spe predict`, and one line for what is wrong."""

import asyncio
import json
import random
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("fastapi", reason="needs the extra serve")

from launcher.predict_results import json_line
from launcher.serving.app import application
from launcher.serving.guard import Guard, Load
from launcher.serving.messages import ExtractResponse, ModelDescription
from launcher.serving.refusal import Refused
from launcher.serving.replica import Asked, Replica
from launcher.serving.settings import Batching, Limits, ReplicaSettings, ServiceSettings
from launcher.serving.token import digest_of
from spe_dist.benchmarks.service_load import Target, bad_requests
from spe_dist.extraction.predict.extractor import Extractor
from tests.unit.launcher.serving.asgi import ask, send_raw
from tests.unit.spe_dist.extraction.lively import RAW_TEXTS, save_lively

TOKEN = "a-token-of-some-length"
SMALL = Limits(texts=5, characters=1000, body_bytes=20_000, seconds=0.2, requests=3)


class OneReplica:
    """In this process."""

    def __init__(self, folder: Path) -> None:
        self.replica = Replica(str(folder), "v1", ReplicaSettings("cpu", "fp32", 1, 4))

    async def extract(self, model, texts, min_entity, min_relation):
        if texts == ["break"]:
            raise ZeroDivisionError(texts[0])
        if texts == ["wait"]:
            await asyncio.sleep(0.3)
        if texts == ["full"]:
            raise Refused(503, "too much", retry_after=7)
        (found,) = await self.replica.extract([Asked(texts, min_entity, min_relation)])
        return found

    async def describe(self, model):
        return ModelDescription(name=model, **await self.replica.describe())

    async def metrics(self):
        return "ray_spe_requests_total 1\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_lively(tmp_path_factory.mktemp("lively") / "model")


@pytest.fixture(scope="module")
def one_replica(folder) -> OneReplica:
    return OneReplica(folder)


@pytest.fixture(scope="module")
def extractor(folder) -> Extractor:
    return Extractor.from_pretrained(folder)


@pytest.fixture(scope="module")
def service(one_replica, tmp_path_factory) -> ServiceSettings:
    own = str(tmp_path_factory.mktemp("own"))
    return ServiceSettings(("people", "places"), digest_of(TOKEN), SMALL, Batching(), own, 0)


@pytest.fixture(scope="module")
def seen() -> list:
    return []


@pytest.fixture(scope="module")
def app(one_replica, service, seen) -> Guard:
    load = Load()
    return Guard(application(one_replica, service, load), service, load, lambda *what: seen.append(what))


def post(app, value: object, path: str = "/v1/extract", **more):
    return asyncio.run(ask(app, path, json.dumps(value).encode(), token=TOKEN, **more))


@settings(max_examples=25)
@given(st.lists(RAW_TEXTS, max_size=3), st.sampled_from([0.0, 0.3, 0.6, 0.9]), st.sampled_from([0.0, 0.2, 0.5]))
def test_any_text_gets_the_line_of_spe_predict(app, extractor, texts, entity, relation):
    texts = [text[:1000] for text in texts]
    response = post(app, {"texts": texts, "min_entity_score": entity, "min_relation_score": relation})
    assert response.status == 200, response.body
    extractor.min_entity_score, extractor.min_relation_score = entity, relation
    expected = [json.loads(json_line({}, found)) for found in extractor(texts)]
    answer = response.json()
    assert answer == {"model": "people", "version": "v1", "results": expected}
    if "\\ud" not in response.body.decode():
        ExtractResponse.model_validate(answer)  # as the OpenAPI page says


def test_models_are_named_in_path_or_body(app, seen):
    assert post(app, {"text": "Ann"}, "/v1/models/places/extract").json()["model"] == "places"
    assert seen[-1][:2] == ("/v1/models/{name}/extract", 200)
    assert post(app, {"text": "Ann", "model": "places"}).json()["model"] == "places"
    assert "the path names" in post(app, {"text": "x", "model": "people"}, "/v1/models/places/extract").error()
    models = asyncio.run(ask(app, "/v1/models", method="GET", token=TOKEN)).json()
    assert [one["name"] for one in models] == ["people", "places"] and models[0]["entity_types"]
    described = asyncio.run(ask(app, "/openapi.json", method="GET")).json()
    assert {"/v1/extract", "/v1/models/{name}/extract", "/v1/models", "/healthz", "/readyz", "/metrics"} == set(
        described["paths"]
    )
    assert "ExtractRequest" in described["components"]["schemas"]


@pytest.mark.parametrize(
    ("value", "status", "told"),
    [
        ({"texts": ["x"] * 6}, 413, "6 are more than 5"),
        ({"texts": ["x", "y" * 1001]}, 413, "texts.1: 1,001 characters"),
        ({"texts": ["x", 3]}, 422, "texts.1: must be a string"),
        ({}, 422, 'either "text" or "texts"'),
        ({"text": "x", "min_entity_score": 1.5}, 422, "min_entity_score: input should be less than or equal to 1"),
        ({"text": "x", "min_entity_score": float("nan")}, 422, "finite"),
        ({"text": "x", "no\nsuch": 1}, 422, "unknown field no such; the fields are: text, texts, model, "),
        (["x"], 422, 'the body is no JSON object: send one, such as {"text": "…"}'),
        ({"text": "x", "model": "nobody"}, 404, "the models are: people, places"),
        ({"text": "break"}, 500, "failed to answer"),
        ({"text": "full"}, 503, "too much"),
    ],
)
def test_what_is_wrong_is_said(app, value, status, told):
    response = post(app, value)
    assert (response.status, told in response.error()) == (status, True), response.body
    assert response.headers.get("retry-after") == ("7" if status == 503 else None)


def test_bad_requests_get_a_line_each(app, service):
    target = Target("x", 80, TOKEN)
    wide = Guard(app._app, replace(service, limits=replace(SMALL, body_bytes=1 << 20)), Load(), lambda *_: None)
    for request, statuses in islice(bad_requests(target, random.Random(0)), 250):
        if len(request) < 2 << 20:  # the largest cost seconds to make
            response = asyncio.run(send_raw(wide, request))
            assert response.status in statuses, request[:300]
            assert response.error()


def test_the_body_must_be_json(app):
    def error(body: bytes, **headers: str) -> str:
        response = asyncio.run(ask(app, body=body, token=TOKEN, **headers))
        assert response.status == 400
        return response.error()

    assert "the body is empty" in error(b"")
    assert "expecting value, at character 0" in error(b"x")
    assert "unterminated string starting, at character 9" in error(b'{"text": "x')
    assert "Content-Type: application/json" in error(b'{"text": "x"}', content_type="text/plain")
    assert "no JSON" in error(b'{"text": "\xff"}')
    assert "no JSON" in error(b"[" * 15_000)


def test_without_the_token_nothing_is_told_but_health(app):
    def status(path: str, token: str, method: str = "GET") -> int:
        return asyncio.run(ask(app, path, method=method, token=token)).status

    for path in ("/v1/models", "/metrics", "/nosuch", "/v1/extract", "/-/routes"):
        assert status(path, "") == status(path, TOKEN + "x") == status(path, TOKEN[:-1]) == 401
    assert status("/v1/extract", "", "POST") == 401
    assert [status(path, "") for path in ("/healthz", "/readyz", "/docs", "/openapi.json")] == [200] * 4
    assert [status(path, TOKEN) for path in ("/v1/models", "/metrics", "/nosuch", "/v1/extract")] == [
        200,
        200,
        404,
        405,
    ]


def test_large_slow_and_broken_bodies(app):
    def response(parts, **headers: str):
        return asyncio.run(ask(app, body=parts, token=TOKEN, **headers))

    assert response(b"x" * 20_001).status == 413
    assert response([b"x" * 10_000] * 3).status == 413  # whose length nobody has said
    assert response(b"", content_length="20001").status == 413
    assert response([b'{"text":', 0.3, b'"x"}']).status == 408
    assert response([b'{"text":']).status == 400  # and the client is gone
    slow = asyncio.run(ask(app, "/healthz", [b"x", 0.3, b"x"], method="GET"))
    assert slow.status == 200  # who has no token holds no place


def test_who_has_no_token_takes_no_room(app):
    async def together():
        strangers = (ask(app, body=[b"x", 0.05, b"x"]) for _ in range(3))
        return await asyncio.gather(*strangers, ask(app, body=b'{"text": "x"}', token=TOKEN))

    assert [response.status for response in asyncio.run(together())] == [401, 401, 401, 200]


def test_more_requests_than_there_is_room_for_are_refused(app, service):
    async def five():
        return await asyncio.gather(*(ask(app, body=b'{"text": "wait"}', token=TOKEN) for _ in range(5)))

    responses = asyncio.run(five())
    assert sorted(response.status for response in responses) == [200, 200, 200, 503, 503]
    assert responses[-1].headers["retry-after"] == "1"
    service.stopping.touch()
    try:
        assert "ending" in post(app, {"text": "x"}).error()
        assert asyncio.run(ask(app, "/readyz", method="GET")).status == 503
        assert asyncio.run(ask(app, "/healthz", method="GET")).json() == {"status": "stopping", "requests": 0}
    finally:
        service.stopping.unlink()
