"""A whole step of every method, with keys, queue and comparison of documents, against the same in fp32 on the CPU."""

from dataclasses import dataclass

import pytest
import torch

from spe_dist.engine.world import World
from spe_dist.methods.enpar.method import build_enpar
from spe_dist.methods.erica.method import build_erica
from spe_dist.methods.mlm.method import build_masked_language
from spe_dist.methods.spe.method import build_spe
from spe_dist.recipe import config_from_values
from tests.gpu.device import DEVICE, on_device, only_on_a_gpu
from tests.paper import tiny_enpar, tiny_spe
from tests.paper.erica import tiny_erica
from tests.paper.erica.oracle import random_documents

pytestmark = on_device
CPU = torch.device("cpu")
ENCODER = {
    "name_or_path": None, "layers": 2, "hidden_size": 64, "heads": 2, "intermediate_size": 64, "max_positions": 300,
    "dropout": 0.0,
}  # fmt: skip
RATE = 0.1


def spanbert_config(**sections):
    values = tiny_spe.recipe_values("spanbert_minilm_cpu")
    for section, change in ({"batch": {"lanes": 6, "lane_size": 3}} | sections).items():
        values[section] = values.get(section, {}) | change
    return config_from_values(values, source="test")


def erica_reader():
    return tiny_erica.Reader(random_documents(tiny_erica.LANES * tiny_erica.LANE_SIZE, seed=5))


METHODS = {
    "spe": (build_spe, tiny_spe.tiny_config, tiny_spe.Reader),
    "enpar": (build_enpar, tiny_enpar.tiny_config, tiny_enpar.Reader),
    "erica": (build_erica, tiny_erica.tiny_config, erica_reader),
    "spanbert": (build_masked_language, spanbert_config, tiny_spe.Reader),
}


@dataclass
class Step:
    """What came of a step, on the CPU.

    Args:
        losses: [terms].
        gradients: by parameter.
        kept: by the method, after the step.
        moved: how far the key encoder has moved.
    """

    losses: torch.Tensor
    gradients: dict[str, torch.Tensor]
    kept: dict[str, torch.Tensor]
    moved: dict[str, torch.Tensor]


def built(name, device, dtype, *, packed=True):
    """A method with the same weights everywhere, all of them numbers that bf16 has; and the batches of a step."""
    build, config, reader = METHODS[name]
    torch.manual_seed(0)
    precision = "bf16" if dtype == torch.bfloat16 else "fp32"
    settings = {"encoder": ENCODER, "train": {"precision": precision}, "compute": {"packed": packed}}
    method = build(config(**settings), reader(), device=device)
    with torch.no_grad():
        for parameter in (*method.model.parameters(), *method.state().values()):
            if parameter.is_floating_point():
                parameter.copy_(parameter.bfloat16())
    method.model.to(device, dtype)
    if name == "spe":
        generator = torch.Generator().manual_seed(1)
        keys = torch.nn.functional.normalize(torch.randn(2, 30, ENCODER["hidden_size"], generator=generator), dim=2)
        method.queue.enqueue(torch.arange(30, device=device), *keys.to(device))
    maker = {"spe": tiny_spe, "enpar": tiny_enpar, "spanbert": tiny_spe}.get(name)
    if maker is not None:
        return (method, *maker.forwards_of_step(method))
    step = tiny_erica.Step(encoder=ENCODER)
    return method, step.plan, step.batches


def take_step(method, plan, batches, device):
    """As `Session.take_step` does it, with plain gradient descent."""
    engine, world = tiny_spe.PlainEngine(method.model), World()
    before = {name: tensor.clone() for name, tensor in method.state().items()}
    more = method.before_step(engine, world, plan, batches)
    counts = torch.stack([batch.counts for batch in batches]).sum(0)
    counts += torch.tensor([more.get(term, 0) for term in method.terms])
    scale = (torch.tensor(method.term_weights) / counts.clamp(min=1)).to(device)
    total = torch.zeros(len(method.terms))
    for batch in batches:
        losses, _ = method.forward(engine, batch.to(device))
        if batch is batches[-1]:
            method.before_last_backward(world, plan)
        engine.backward((losses * scale).sum())
        total += losses.detach().float().cpu()
    parameters = dict(method.model.named_parameters())
    with torch.no_grad():
        for parameter in parameters.values():
            parameter -= RATE * parameter.grad
    method.after_step(engine)
    gradients = {name: parameter.grad.float().cpu() for name, parameter in parameters.items()}
    kept = {name: tensor.detach().cpu().clone() for name, tensor in method.state().items()}
    moved = {name: tensor - before[name].cpu() for name, tensor in kept.items() if name.startswith("key_encoder")}
    return Step(total, gradients, kept, moved)


def relative_error(found, expected):
    mine, theirs = (torch.cat([tensors[name].flatten() for name in expected]) for tensors in (found, expected))
    return ((mine - theirs).norm() / theirs.norm()).item()


# In fp32 layers are padded: packed attention on a GPU is for half precision. Products with the queue may be in TF32.
@pytest.mark.parametrize(
    ("dtype", "packed", "of_losses", "of_gradient"),
    [(torch.float32, False, 1e-3, 5e-3), (torch.bfloat16, True, 2e-2, 0.12)],
    ids=["fp32", "bf16"],
)
@pytest.mark.parametrize("name", METHODS)
def test_losses_gradients_keys_and_queue_are_those_of_the_cpu(name, dtype, packed, of_losses, of_gradient):
    expected = take_step(*built(name, CPU, torch.float32), CPU)
    assert (expected.losses > 0).all()
    found = take_step(*built(name, DEVICE, dtype, packed=packed), DEVICE)
    torch.testing.assert_close(found.losses, expected.losses, rtol=of_losses, atol=0)
    assert relative_error(found.gradients, expected.gradients) < of_gradient
    assert found.kept.keys() == expected.kept.keys()
    for kept, tensor in expected.kept.items():
        if not tensor.is_floating_point():  # whose keys are in the queue, and what was compared
            assert torch.equal(found.kept[kept], tensor), kept
        elif kept.startswith("queue"):  # of length 1
            torch.testing.assert_close(found.kept[kept], tensor, rtol=0, atol=of_losses, msg=kept)
    if name == "spe" and dtype == torch.float32:  # in bf16 weights move by less than they can tell, without masters
        assert relative_error(found.moved, expected.moved) < of_gradient


@only_on_a_gpu
@pytest.mark.parametrize("name", METHODS)
def test_forward_and_backward_passes_wait_for_nothing(name):
    for mode in ("default", "error"):  # the first builds and loads
        method, plan, batches = built(name, DEVICE, torch.bfloat16)
        engine = tiny_spe.PlainEngine(method.model)
        method.before_step(engine, World(), plan, batches)
        batches = [batch.pin_memory().to(DEVICE) for batch in batches]
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode(mode)
        try:
            for batch in batches:
                method.forward(engine, batch)[0].sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
