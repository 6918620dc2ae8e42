"""`--config auto`: the recipe of SPE that fits this machine and the encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from data_shards.counted import counted
from spe_dist.config import EncoderConfig

if TYPE_CHECKING:
    from spe_dist.engine.machine import Machine

AUTO = "auto"
_BERT_BASE = 768  # hidden size


def choose_recipe(arguments: Sequence[str], machine: Machine, *, hidden_size: int | None) -> tuple[list[str], str]:
    """Arguments that name a recipe where `--config auto` stands, and a line that says which and why.

    Args:
        arguments: arguments of `spe pretrain`, with `--config auto`.
        machine: that trains.
        hidden_size: size of the encoder; None: a new one of the recipe's own size.
    """
    size = "a new encoder" if hidden_size is None else f"an encoder of hidden size {hidden_size}"
    where = "no usable GPU" if not machine.gpus else counted(machine.gpus, "GPU")
    more: list[str] = []
    if hidden_size is None:
        name = "debug"
    elif not machine.gpus:
        name = "minilm_cpu"
    elif hidden_size < _BERT_BASE:
        name = "minilm_1gpu"
    elif machine.gpus == 1:
        name = "spe_wiki_1gpu"
    else:
        name, more = "spe_wiki", [f"--cluster.workers={machine.gpus}"]
    place = _place_of_auto(arguments)
    assert place is not None
    first, after = place
    rest = [*arguments[:first], *arguments[after:]]
    given = [argument.partition("=")[0].replace("_", "-") for argument in rest]
    more = [setting for setting in more if setting.partition("=")[0] not in given]
    line = f"recipe {' '.join([name, *more])}: {size}, {where} (--config names another)"
    return ["--config", name, *more, *rest], line


def with_chosen_recipe(arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """The arguments with the name of a recipe for `--config auto`, and what to say of it; others as they are.

    Raises:
        UserError: the encoder that they name cannot be found, or is of a kind that is not supported.
    """
    if _place_of_auto(arguments) is None:
        return list(arguments), None
    from spe_dist.engine.machine import Machine
    from spe_dist.models.saved_encoder import resolve_encoder_config

    encoder = _encoder_of(arguments)
    size = None
    if encoder is not None:
        size = resolve_encoder_config(EncoderConfig(name_or_path=encoder), vocab_size=0).hidden_size
    return choose_recipe(arguments, Machine.here(), hidden_size=size)


def _place_of_auto(arguments: Sequence[str]) -> tuple[int, int] | None:
    """Where `--config auto` begins and ends among the arguments."""
    for index, argument in enumerate(arguments):
        if argument == f"--config={AUTO}":
            return index, index + 1
        if argument == "--config":
            return (index, index + 2) if list(arguments[index + 1 : index + 2]) == [AUTO] else None
    return None


def _encoder_of(arguments: Sequence[str]) -> str | None:
    """The encoder that the arguments name; None for a new one."""
    named = None
    for argument, after in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, value = argument.partition("=")
        if name.replace("_", "-") == "--encoder.name-or-path":
            named = value if equals else after
    return None if named in ("None", "null") else named
