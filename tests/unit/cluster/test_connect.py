"""What a person is told when no Ray comes up."""

import pytest
import ray

from cluster.security import connect
from data_shards.errors import UserError


def test_a_ray_that_does_not_start_in_time_is_one_line(monkeypatch):
    def slow_start(**_):
        raise Exception("The current node timed out during startup. This could happen because …")

    monkeypatch.setattr(ray, "init", slow_start)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(UserError, match=r"node timed out during startup\): is the machine busy"):
        connect("local", allow_unauthenticated=False)
