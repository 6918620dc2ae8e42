"""`spe serve` as a person starts it: killed replicas, another model in its place, an end with requests on their way."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from launcher.bench_serve import model_processes
from launcher.serving.service import version_of_files
from spe_dist.extraction.predict.extractor import Extractor
from tests.faults.command_runs import PATIENCE, SPE
from tests.forked import clean_environment
from tests.integration.ray_head import free_port, wait_until
from tests.unit.spe_dist.extraction.lively import save_lively

pytestmark = pytest.mark.ray
TEXTS = [f"In {place} lives {name}, who works for Acme Inc." for place in ("Paris", "Rome") for name in ("Ann", "Bob")]


class Client(threading.Thread):
    """Asks again and again, until told to stop; every answer is kept."""

    def __init__(self, url: str, token: str) -> None:
        super().__init__(daemon=True)
        self.url, self.token = url, token
        self.answers: list[tuple[int, dict]] = []
        self.stopping = False
        self.start()

    def run(self) -> None:
        while not self.stopping:
            self.answers.append(ask(self.url, "/v1/extract", {"texts": TEXTS}, self.token))

    def more(self, count: int, process: psutil.Popen) -> None:
        """Wait until there are some more answers."""
        enough = len(self.answers) + count
        wait_until(lambda: len(self.answers) >= enough, PATIENCE, process)


def ask(url: str, path: str, value: object, token: str) -> tuple[int, dict]:
    """Status and body; 0 if the connection broke."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    request = urllib.request.Request(url + path, value and json.dumps(value).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except OSError as error:
        return 0, {"error": str(error)}


def save_other(folder: Path) -> Path:
    """The same with other scores."""
    path = save_lively(folder) / "extractor.safetensors"
    with safe_open(path, "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    save_file({name: tensor * 0.8 for name, tensor in tensors.items()}, path, metadata)
    return folder


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[tuple[psutil.Popen, str, str]]:
    """A service, its address and token; it ends as asked, without a traceback."""
    url, token = f"http://127.0.0.1:{free_port()}", folder / "token"
    command = [SPE, "serve", *arguments, "--port", url.rpartition(":")[2], "--token-file", str(token), "--device=cpu"]
    environment = clean_environment() | {"RAY_TMPDIR": "/tmp", "RAY_metrics_report_interval_ms": "500"}
    with (folder / "out").open("w") as out:
        service = psutil.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)
        try:
            wait_until(lambda: "Ctrl-C" in (folder / "out").read_text(), PATIENCE, service)
            yield service, url, token.read_text().strip()
        finally:
            if service.poll() is None:
                service.send_signal(signal.SIGTERM)
            assert service.wait(PATIENCE) == 0, (folder / "out").read_text()
    assert "Traceback" not in (folder / "out").read_text()


def test_it_answers_good_requests_and_refuses_bad_ones(tmp_path):
    model = save_lively(tmp_path / "model")
    with serving(tmp_path, f"people={model}") as (service, url, token):
        status, answer = ask(url, "/v1/extract", {"texts": TEXTS}, token)
        expected = [one.as_json() for one in Extractor.from_pretrained(model, device="cpu")(TEXTS)]
        assert (status, answer["results"], answer["version"]) == (200, expected, version_of_files(model))
        for value, key, refused in (({"texts": 5}, token, 422), ({"texts": TEXTS}, "another", 401)):
            status, answer = ask(url, "/v1/extract", value, key)
            assert status == refused and "results" not in answer, answer
        assert service.is_running()


@pytest.mark.slow
def test_nothing_is_lost_or_wrong_whatever_happens(tmp_path):
    old, new = save_lively(tmp_path / "old"), save_other(tmp_path / "new")
    expected = {
        version_of_files(folder): [one.as_json() for one in Extractor.from_pretrained(folder, device="cpu")(TEXTS)]
        for folder in (old, new)
    }
    assert len({json.dumps(found) for found in expected.values()}) == 2
    served = Path(shutil.copytree(old, tmp_path / "served"))
    with serving(tmp_path, f"people={served}", "--replicas=2", "--metrics-port=0") as (service, url, token):
        client = Client(url, token)
        client.more(20, service)
        for _ in range(2):
            model_processes(service)[0].kill()
            client.more(20, service)
        shutil.rmtree(served)
        served.mkdir()  # half a model: the old one stays
        service.send_signal(signal.SIGUSR1)
        wait_until(lambda: "people stays as it was" in (tmp_path / "out").read_text(), PATIENCE, service)
        shutil.copytree(new, served, dirs_exist_ok=True)
        service.send_signal(signal.SIGUSR1)
        wait_until(lambda: "is replaced by" in (tmp_path / "out").read_text(), PATIENCE, service)
        client.more(20, service)
        metrics = urllib.request.Request(f"{url}/metrics", headers={"Authorization": f"Bearer {token}"})
        published = urllib.request.urlopen(metrics).read().decode()
        service.send_signal(signal.SIGTERM)
        assert service.wait(PATIENCE) == os.EX_OK
        time.sleep(0.2)
        client.stopping = True
    statuses = [status for status, _ in client.answers]
    answered = [answer for status, answer in client.answers if status == 200]
    assert len(answered) >= 80 and statuses[: len(answered)] == [200] * len(answered)  # until it was asked to end
    assert set(statuses[len(answered) :]) <= {503, 0}  # and then it says so, until nobody listens any more
    assert {one["version"] for one in answered} == set(expected)
    assert answered[0]["version"] == version_of_files(old) and answered[-1]["version"] == version_of_files(new)
    assert all(one["results"] == expected[one["version"]] for one in answered)
    for name in (
        "ray_spe_requests_total",
        "ray_spe_request_seconds_bucket",
        "ray_spe_texts_total",
        "ray_spe_batch_texts",
    ):
        assert name in published
