"""The only file that knows DeepSpeed: one optimizer step over all ranks, and the training state as whole tensors.

    engine = Engine(module, ...)             weights of a checkpoint are put into the module before: load_masters_into
    engine.initialise_optimizer(dry_run)     memory of the largest step is taken now, not in hour five
    engine.write_state(...)                  only when resuming
    every step:  for each of A forwards: loss = f(engine.forward(batch)); engine.backward(loss)
                 engine.step(lr)

Three habits of DeepSpeed shape this file; tests/distributed/test_pinned_deepspeed.py watches each of them:

* Stages 1 and 2 make the optimizer state visible after the first group's first step only. So the state is filled in for
  every group beforehand, and a step with learning rate 0 comes before anything is read or written.
* Setting a master weight leaves the low-precision copy alone, so weights enter the module before DeepSpeed does.
* At stage 3, setting a whole tensor fails where the ranks do not divide its size. Only local pieces are set here.
"""

from __future__ import annotations

import gc
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import deepspeed
import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.runtime.bf16_optimizer import BF16_Optimizer
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_get_local_fp32_param,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)
from torch import Tensor, nn

from data_shards.errors import PassingError, UserError
from spe_dist.engine.compiler import one_at_a_time, require_compiler
from spe_dist.engine.grouped_gradients import (
    find_overflow_by_norm,
    group_gradients,
    keep_gradients_in_place,
)
from spe_dist.engine.param_groups import RateOf, param_groups, same_rate
from spe_dist.engine.tensor_owners import assign_to_ranks
from spe_dist.engine.world import World
from spe_dist.engine.zero_config import Precision, deepspeed_config

_MOMENTS = ("exp_avg", "exp_avg_sq")
_KINDS = ("master", *_MOMENTS)
_NO_COMPILER = "TORCHDYNAMO_DISABLE"
GetTensor = Callable[[str], Tensor]


def load_masters_into(module: nn.Module, get_tensor: GetTensor) -> None:
    """Copy a checkpoint's master weights into a module that no engine holds yet.

    Args:
        module: fp32 parameters, whole on every rank.
        get_tensor: gives the tensor `<parameter name>.master`.

    Raises:
        UserError: a tensor has another shape than its parameter.
    """
    with torch.no_grad():
        for name, param in module.named_parameters():
            param.copy_(_checked(get_tensor, f"{name}.master", param.shape))


class Engine:
    """A module under DeepSpeed.

    Args:
        module: every parameter trains; parameters in fp32. Its buffers must not be part of its state.
        world: this rank among all.
        accumulation: forward passes of a rank per step, A; `begin_step` may say otherwise.
        stage: ZeRO stage 1, 2 or 3.
        precision: dtype of the compute weights.
        betas: decay rates of Adam's moments.
        eps: Adam's epsilon.
        weight_decay: decoupled decay of matrices; biases and norms have none.
        clip: largest norm of the whole gradient, 0 for no clipping.
        rate_of: the learning rate of each parameter, as a share of the step's.

    Raises:
        UserError: setting not offered, or no compiler on a machine without GPU.
        ValueError: the module has state that a checkpoint would not hold.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        world: World,
        accumulation: int,
        stage: int,
        precision: Precision,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        clip: float = 1.0,
        rate_of: RateOf = same_rate,
    ) -> None:
        config = deepspeed_config(
            stage=stage,
            precision=precision,
            accumulation=accumulation,
            world_size=world.size,
            clip=clip,
            elements=sum(param.numel() for param in module.parameters()),
        )
        if world.device.type == "cpu":
            require_compiler()
            _load_communication_op()
        elif precision == "bf16":
            # Similarities with the queue, in fp32: as exact as their bf16 vectors (docs/decisions.md).
            torch.set_float32_matmul_precision("high")
        _require_complete_state(module)
        self.world = world
        self.accumulation = accumulation
        self._passes_left: int | None = None  # of a step whose number of passes was said; None: DeepSpeed counts
        self._adam_step = 0
        self.stage = stage
        self._shapes = {name: param.shape for name, param in module.named_parameters()}
        _quiet_deepspeed()
        # The learning rate comes with every step; 0 until then, so that no step before the first can move a weight.
        self._adam = torch.optim.AdamW(
            param_groups(module.to(world.device), weight_decay, rate_of), lr=0.0, betas=betas, eps=eps, fused=True
        )
        # It prints memory figures that no setting turns off.
        with redirect_stdout(io.StringIO()), _nothing_compiled(), _little_to_collect():
            self._engine, *_ = deepspeed.initialize(model=module, optimizer=self._adam, config=config)
        if isinstance(self._engine.optimizer, BF16_Optimizer):
            group_gradients(self._engine.optimizer)
            if world.size == 1:
                self._engine.enable_backward_allreduce = False  # it would copy all gradients out and in again
        elif isinstance(self._engine.optimizer, DeepSpeedZeroOptimizer):
            find_overflow_by_norm(self._engine.optimizer)
            if stage == 1 and world.size == 1:
                keep_gradients_in_place(self._engine.optimizer)
        self._fill_optimizer_state()

    @property
    def module(self) -> nn.Module:
        """The module; at stage 3 its parameters are empty outside of `forward` and `gather_parameters`."""
        return self._engine.module

    @property
    def state_names(self) -> set[str]:
        """Names of all tensors of the state, over all ranks."""
        return {f"{name}.{kind}" for name in self._shapes for kind in _KINDS}

    @property
    def grad_norm(self) -> float:
        """Norm of the last step's whole gradient before clipping. Waits for the device."""
        return float(self._engine.get_global_grad_norm())

    @property
    def adam_step(self) -> int:
        """Updates the moments have seen."""
        return self._adam_step

    @property
    def weight_decays(self) -> dict[str, float]:
        """The decay that Adam applies to each parameter."""
        return {name: group["weight_decay"] for group in self._adam.param_groups for name in group["names"]}

    def begin_step(self, passes: int) -> None:
        """Make the next step one of so many forward and backward passes, the same on every rank.

        Who calls this once must do so before every step.
        """
        self._passes_left = passes
        self._engine.set_gradient_accumulation_boundary(passes == 1)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's output."""
        return self._engine(*args, **kwargs)

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of one of the step's A losses.

        The step's gradient is the plain sum over all forwards of all ranks. DeepSpeed would average instead, over A and
        over W: it is told to leave out the first, and the factor W undoes the second. Nothing else in the project
        scales a loss for the sake of distribution.

        Args:
            loss: scalar, already divided by the step's global count.
        """
        self._engine.backward(loss * self.world.size, scale_wrt_gas=False)
        last = self._engine.is_gradient_accumulation_boundary()
        if not last:
            self._engine.step()  # moves DeepSpeed's counter on to the next forward, and no weight
        if self._passes_left is not None:
            self._passes_left -= 1
            if not last:
                self._engine.set_gradient_accumulation_boundary(self._passes_left == 1)

    def step(self, lr: float) -> None:
        """Update the weights after A calls of `backward`, or as many as `begin_step` said.

        Raises:
            PassingError: the gradient holds an infinity or is not a number. DeepSpeed leaves the weights as they were.
        """
        if self._passes_left or not self._engine.is_gradient_accumulation_boundary():
            passes = self.accumulation if self._passes_left is None else f"{self._passes_left} more"
            raise RuntimeError(f"a step needs exactly {passes} forward and backward passes before it")
        for group in self._adam.param_groups:
            group["lr"] = lr * group["rate"]
        self._engine.step()
        if not self._engine.was_step_applied():
            raise PassingError(
                "the gradient of this step is not finite, no weight was changed: "
                "resume from the last checkpoint with a lower learning rate, or look at this step's batch"
            )
        if self.stage == 3:  # else a parameter that takes no part in the next step's first forward would keep this one
            self._engine.optimizer.grad_partitions_flat_buffer.zero_()
        self._adam_step += 1

    def initialise_optimizer(self, run_forwards: Callable[[], None]) -> None:
        """Take one step that changes nothing, so that all memory is taken and the optimizer state can be reached.

        Args:
            run_forwards: does the forward and backward passes of a step of the largest shapes of the run, not the step.
        """
        devices = [self.world.device] if self.world.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            run_forwards()
        self.step(0.0)
        self._set_adam(step=0, clear_moments=True)

    @contextmanager
    def gather_parameters(self, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
        """Whole compute weights by name, to be read inside the context only; every rank must enter it.

        At stages 1 and 2 this costs nothing; at stage 3 it is one gather.
        """
        parameters = dict(self.module.named_parameters())
        chosen = {name: parameters[name] for name in names}
        # Writing in here would be dropped without a word, hence the detached tensors and the word "read".
        with deepspeed.zero.GatheredParameters(list(chosen.values()), modifier_rank=None, enabled=self.stage == 3):
            yield {name: param.detach() for name, param in chosen.items()}

    def read_state(self, copy: Callable[[str, Tensor], Tensor]) -> Iterator[tuple[str, Tensor]]:
        """This rank's share of the state, as whole fp32 tensors; every rank must exhaust it.

        Args:
            copy: copies the tensor of a name; the original belongs to the engine.

        Yields:
            `<parameter>.master`, `<parameter>.exp_avg` and `<parameter>.exp_avg_sq` of the parameters that fall to
            this rank: over all ranks every parameter exactly once.
        """
        owners = assign_to_ranks({name: shape.numel() for name, shape in self._shapes.items()}, self.world.size)
        for name, param in self.module.named_parameters():
            for kind in _KINDS:
                whole = self._read(param, kind)
                if owners[name] == self.world.rank:
                    yield f"{name}.{kind}", copy(f"{name}.{kind}", whole)

    def write_state(self, get_tensor: GetTensor, adam_step: int) -> None:
        """Set master weights and moments; comes after `initialise_optimizer`.

        The compute weights are left alone: they came through `load_masters_into`.

        Args:
            get_tensor: gives the whole tensor of a name that `read_state` would yield.
            adam_step: updates the moments have seen.

        Raises:
            UserError: a tensor has another shape than its parameter.
        """
        for name, param in self.module.named_parameters():
            for kind in _KINDS:
                self._write(param, kind, _checked(get_tensor, f"{name}.{kind}", self._shapes[name]))
        self._set_adam(step=adam_step, clear_moments=False)

    def _fill_optimizer_state(self) -> None:
        for group in self._adam.param_groups:
            for flat in group["params"]:
                step = torch.zeros((), dtype=torch.float32, device=flat.device)
                self._adam.state[flat] = {"step": step, **{kind: torch.zeros_like(flat) for kind in _MOMENTS}}

    def _set_adam(self, *, step: int, clear_moments: bool) -> None:
        self._adam_step = step
        for state in self._adam.state.values():
            state["step"].fill_(step)
            if clear_moments:
                for kind in _MOMENTS:
                    state[kind].zero_()

    def _read(self, param: nn.Parameter, kind: str) -> Tensor:
        if kind == "master":
            return safe_get_full_fp32_param(param)
        return safe_get_full_optimizer_state(param, kind)

    def _write(self, param: nn.Parameter, kind: str, whole: Tensor) -> None:
        value = whole.to(self.world.device, torch.float32)
        if self.stage < 3:
            if kind == "master":
                safe_set_full_fp32_param(param, value)
            else:
                safe_set_full_optimizer_state(param, value, kind)
            return
        # A rank's piece has the same size everywhere, so the last ones reach past the end of the tensor.
        size = safe_get_local_fp32_param(param).numel()
        padded = nn.functional.pad(value.flatten(), (0, size * self.world.size - value.numel()))
        piece = padded[self.world.rank * size : (self.world.rank + 1) * size]
        if kind == "master":
            safe_set_local_fp32_param(param, piece)
        else:
            safe_set_local_optimizer_state(param, piece, kind)


@contextmanager
def _little_to_collect() -> Iterator[None]:
    """Keep DeepSpeed's collections of garbage short.

    It makes two for every group of parameters, each over all objects of all imported modules: seven seconds with the
    fourteen groups of layer-wise rates.
    """
    if gc.get_freeze_count():  # somebody else's, which is not ours to undo
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextmanager
def _nothing_compiled() -> Iterator[None]:
    """Keep DeepSpeed from compiling its Muon optimizer, which is not used here.

    It imports that one whenever an engine is built, and decorated functions in it then load all of Inductor: three
    seconds of every start. What this project compiles is compiled later.
    """
    before = os.environ.get(_NO_COMPILER)
    os.environ[_NO_COMPILER] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_NO_COMPILER]
        else:
            os.environ[_NO_COMPILER] = before


def _load_communication_op() -> None:
    """Load DeepSpeed's operation for gloo ranks of one machine before DeepSpeed does; the first time builds it."""
    builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
    if builder is not None and builder.is_compatible(verbose=False):
        with one_at_a_time(builder.NAME), redirect_stdout(io.StringIO()):
            builder.load(verbose=False)


def _quiet_deepspeed() -> None:
    deepspeed.utils.logger.setLevel(logging.WARNING)
    # DeepSpeed's own calls, several a step; the names it uses still work.
    warnings.filterwarnings("ignore", r"`torch\.distributed\.\w+` is deprecated", FutureWarning)


def _require_complete_state(module: nn.Module) -> None:
    parameters = dict(module.named_parameters())
    frozen = [name for name, param in parameters.items() if not param.requires_grad]
    buffers = sorted(module.state_dict().keys() - dict(module.named_parameters(remove_duplicate=False)).keys())
    if frozen or buffers:
        raise ValueError(
            f"the training state holds trained parameters only, so these would be lost: {', '.join(frozen + buffers)}; "
            "train them, or register buffers with persistent=False"
        )


def _checked(get_tensor: GetTensor, name: str, shape: torch.Size) -> Tensor:
    tensor = get_tensor(name)
    if tensor.shape != shape:
        raise UserError(
            f"the checkpoint's {name} has shape {tuple(tensor.shape)} and this model's {tuple(shape)}: "
            "resume with the configuration of the run that wrote it"
        )
    return tensor
