"""What the proxy does when processes of a model die, without Ray."""

import asyncio
from types import SimpleNamespace

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from ray.exceptions import RayActorError, WorkerCrashedError

from launcher.serving import proxy
from launcher.serving.refusal import Refused
from launcher.serving.replica import FoundTexts
from launcher.serving.settings import Batching, Limits, ServiceSettings

DEATHS = [WorkerCrashedError(), RayActorError(), WorkerCrashedError(), WorkerCrashedError()]


@pytest.mark.parametrize("deaths", [3, 4])
def test_a_request_is_asked_again_until_it_has_cost_four_processes(monkeypatch, deaths):
    left = DEATHS[-deaths:]

    async def extract(batch):
        if left:
            raise left.pop(0)
        return [FoundTexts("v1", list(asked.texts)) for asked in batch]

    handle = SimpleNamespace(extract=SimpleNamespace(remote=extract))
    monkeypatch.setattr(proxy.serve, "get_app_handle", {"people": handle}.get)
    backend = proxy.ServeBackend(ServiceSettings(("people",), "", Limits(), Batching(), "", 0))
    answer = backend.extract("people", ["x"], 0.0, 0.0)
    if deaths < 4:
        assert asyncio.run(answer) == FoundTexts("v1", ["x"])
        return
    with pytest.raises(Refused, match="people does not answer: try again") as refused:
        asyncio.run(answer)
    assert (refused.value.status, refused.value.retry_after) == (503, 5)
