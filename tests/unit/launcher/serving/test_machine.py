"""What a service knows of its machine: its own pages and its GPUs."""

from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from threading import Thread

import pytest

from launcher.serving.local_page import read_local_page
from launcher.serving.settings import gpu_share


def test_pages_of_this_machine_are_not_asked_of_a_proxy(tmp_path, monkeypatch):
    (tmp_path / "page").write_text("here")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    with HTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path)) as server:
        Thread(target=server.handle_request, daemon=True).start()
        assert read_local_page(f"http://127.0.0.1:{server.server_port}/page") == "here"


@pytest.mark.parametrize("gpus", [1, 2, 3, 8])
def test_all_replicas_find_room_on_gpus(gpus):
    assert gpu_share(0, 3) == 0
    for replicas in range(1, 40):
        thousandths = round(1000 * gpu_share(gpus, replicas))
        assert 0 < thousandths <= 1000 and gpus * (1000 // thousandths) >= replicas
