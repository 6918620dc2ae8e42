"""A whole forward and backward pass on a GPU; skipped where there is none."""

import pytest
import torch

from tests.paper.tiny_spe import build_spe, forwards_of_step

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
GPU = torch.device("cuda")
ENCODER = {"hidden_size": 64, "heads": 2, "intermediate_size": 64}  # heads of 32: the kernel takes multiples of 8


def test_losses_are_those_of_the_cpu_to_bf16():
    spe, _ = build_spe(encoder=ENCODER, cspo={"weight": 0.0})
    _, (batch, *_) = forwards_of_step(spe)
    expected, *_ = spe.model(batch, None, None)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        found, *_ = spe.model.to(GPU)(batch.to(GPU), None, None)
    torch.testing.assert_close(found.float().cpu(), expected, rtol=2e-2, atol=2e-2)


def test_a_forward_and_backward_pass_wait_for_nothing():
    spe, _ = build_spe(encoder=ENCODER, cspo={"weight": 0.0})
    _, (batch, *_) = forwards_of_step(spe)
    model, batch = spe.model.to(GPU), batch.to(GPU)
    for mode in ("default", "error"):  # the first builds and loads
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode(mode)
        try:
            with torch.autocast("cuda", dtype=torch.bfloat16):
                model(batch, None, None)[0].sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
