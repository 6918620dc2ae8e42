"""What ends a run that failed, and what it survives."""

import pytest
import ray.exceptions

from cluster.restarts import RestartPolicy, Restarts
from data_shards.errors import PassingError, UserError


def died() -> Exception:
    return ray.exceptions.RayActorError(error_msg="The actor died unexpectedly")


def wrapped(error: Exception) -> Exception:
    return ray.exceptions.RayTaskError("train", "Traceback ...", error)


def test_lost_ranks_are_survived_while_there_is_progress():
    restarts = Restarts(limit=2)
    assert [restarts.judge(died(), step) for step in (0, 0, 20, 20, 40, 60)] == [None] * 6


def test_too_many_failures_at_one_checkpoint_end_the_run():
    restarts = Restarts(limit=2)
    assert [restarts.judge(died(), 40) for _ in range(2)] == [None, None]
    verdict = restarts.judge(died(), 40)
    assert "3 failures in a row" in str(verdict) and "step 40" in str(verdict) and "died unexpectedly" in str(verdict)


def test_none_is_survived_where_none_may_be():
    assert Restarts(limit=0).judge(died(), 40) is not None


def test_what_a_person_must_mend_ends_the_run_at_once():
    error = UserError("the shard is gone")
    assert Restarts(limit=9).judge(wrapped(error), 0) is error


def test_what_may_pass_is_tried_once_more_and_not_twice():
    restarts = Restarts(limit=9)
    assert restarts.judge(wrapped(PassingError("the loss is not finite at step 7")), 0) is None
    assert "not finite at step 7" in str(restarts.judge(wrapped(PassingError("the loss is not finite at step 7")), 0))


def test_what_may_pass_did_pass_if_it_comes_at_another_place():
    restarts = Restarts(limit=9)
    for step in (7, 8):
        assert restarts.judge(PassingError(f"the loss is not finite at step {step}"), 0) is None
    assert restarts.judge(PassingError("the loss is not finite at step 8"), 20) is None


def test_the_mistake_counts_and_not_what_it_did_to_other_ranks():
    policy = RestartPolicy(Restarts(limit=9), lambda: 0)
    with pytest.raises(UserError, match="the shard is gone"):
        policy.after_exception(None, {0: died(), 1: wrapped(UserError("the shard is gone"))})
