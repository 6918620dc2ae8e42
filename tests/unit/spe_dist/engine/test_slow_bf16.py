"""A CPU that emulates bf16 is told of, whatever this one does."""

import torch
from pytest import MonkeyPatch

from spe_dist.engine import slow_bf16
from spe_dist.engine.slow_bf16 import slow_bf16_warning


def as_if(monkeypatch: MonkeyPatch, *, bf16_seconds: float) -> None:
    seconds = {torch.bfloat16: bf16_seconds, torch.float32: 1.0}
    monkeypatch.setattr(slow_bf16, "_seconds_of_a_product", seconds.__getitem__)


def test_only_bf16_on_a_slow_cpu_is_warned_of(monkeypatch: MonkeyPatch) -> None:
    as_if(monkeypatch, bf16_seconds=7.2)
    assert "takes 7 times as long as fp32" in (slow_bf16_warning("bf16", "cpu") or "")
    assert slow_bf16_warning("fp32", "cpu") is None
    assert slow_bf16_warning("bf16", "cuda") is None
    as_if(monkeypatch, bf16_seconds=0.5)
    assert slow_bf16_warning("bf16", "cpu") is None


def test_products_are_timed() -> None:
    assert 0 < slow_bf16._seconds_of_a_product(torch.float32) < 1
