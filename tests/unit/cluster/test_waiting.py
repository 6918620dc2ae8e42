"""When a command says what it waits for; tests/integration/test_busy_cluster.py sees that it does."""

import ray

from cluster import waiting
from cluster.waiting import WaitingLines


def test_what_is_missing_is_said_after_ten_seconds_and_then_every_minute(monkeypatch):
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": 3.0})
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 16.0, "GPU": 4.0})
    said = []
    lines = WaitingLines("2 workers need", {"CPU": 4, "GPU": 1}, said.append)
    seconds_said = []
    for second in range(200):
        monkeypatch.setattr(waiting.time, "monotonic", lambda second=second: second)
        lines.look(waits=second < 100 or second > 150)
        seconds_said += [second] * (len(said) - len(seconds_said))
    assert seconds_said == [10, 70, 161]
    assert set(said) == {
        "waiting for the cluster: 2 workers need 4 CPUs and 1 GPU each; free: 3 of 16 CPUs and 0 of 4 GPUs"
    }
