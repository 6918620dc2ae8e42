"""What the driver makes of a request to stop; with a real Ray: tests/integration/test_busy_cluster.py."""

import pytest

from cluster import ray_train
from cluster.run_flags import RunFlag
from data_shards.stop_requests import Stopped
from launcher.recipe_arguments import read_arguments


@pytest.mark.parametrize(
    ("have_places", "trains"),
    [(False, False), (True, False), (False, True)],  # at first; in set-up; started again, and waiting for a place
)
def test_ranks_that_have_nothing_to_save_are_not_waited_for(tmp_path, monkeypatch, have_places, trains):
    left = flags(monkeypatch, have_places, trains)
    config, _ = read_arguments([f"--run.folder={tmp_path}"])
    (tmp_path / "debug/checkpoints/step-000000040").mkdir(parents=True)
    with pytest.raises(Stopped, match="nothing to save; the same command resumes after step 40"):
        ray_train._ask_ranks_to_stop(config)
    assert left == []


def test_ranks_that_train_are_asked_to_save(tmp_path, monkeypatch):
    left = flags(monkeypatch, True, True)
    config, _ = read_arguments([f"--run.folder={tmp_path}"])
    ray_train._ask_ranks_to_stop(config)
    assert left == [RunFlag.STOP]


def flags(monkeypatch, have_places, trains):
    def end(message):
        raise Stopped(message)

    left = []
    monkeypatch.setattr(ray_train, "end_as_it_stands", end)
    monkeypatch.setattr(ray_train, "have_places", lambda: have_places)
    monkeypatch.setattr(ray_train, "is_set", {RunFlag.BEGUN: trains}.get)
    monkeypatch.setattr(ray_train, "set_flag", left.append)
    return left
