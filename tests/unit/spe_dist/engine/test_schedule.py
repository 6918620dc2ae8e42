import pytest

from spe_dist.engine.schedule import learning_rate


def rates(**settings):
    return [learning_rate(step, peak=1.0, **settings) for step in range(settings["steps"] + 1)]


def test_warm_up_rises_to_the_peak_and_decay_falls_to_zero():
    assert rates(warmup_steps=4, steps=8) == [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]


def test_without_warm_up_the_first_update_has_the_peak():
    assert rates(warmup_steps=0, steps=4) == [1.0, 0.75, 0.5, 0.25, 0.0]


def test_a_run_of_nothing_but_warm_up():
    assert rates(warmup_steps=2, steps=2) == [0.5, 1.0, 0.0]


@pytest.mark.parametrize("step", [40_000, 50_000])
def test_after_the_run_the_rate_is_zero(step):
    assert learning_rate(step, peak=5e-5, warmup_steps=18_000, steps=40_000) == 0.0
