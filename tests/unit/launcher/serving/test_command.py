"""`spe serve` as a command, with a service that runs nothing."""

import os
import signal
from contextlib import contextmanager

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from launcher import serve
from launcher.serving import service
from tests.unit.spe_dist.extraction.lively import save_lively


def test_an_update_asked_for_during_the_start_comes_when_the_service_is_there(tmp_path, monkeypatch, capsys):
    class Starting:
        def __init__(self, *settings):
            os.kill(os.getpid(), signal.SIGUSR1)

        @contextmanager
        def running(self):
            yield

        def update(self):
            yield "updated"
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(service, "Service", Starting)
    before = signal.signal(signal.SIGUSR1, lambda *_: pytest.fail("nobody waits for the signal"))
    try:
        serve.main([str(save_lively(tmp_path / "model")), "--port=0"])
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert "updated" in capsys.readouterr().out


def test_the_path_of_a_folder_may_hold_the_sign_that_ends_a_name(tmp_path):
    folder = save_lively(tmp_path / "lr=3/people")
    assert serve.models_of([str(folder), f"a={folder}"]) == {"people": folder, "a": folder}
