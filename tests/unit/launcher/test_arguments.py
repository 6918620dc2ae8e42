"""Mistakes in the arguments of commands, told in one line whatever release of tyro is installed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from data_shards.errors import UserError
from launcher.arguments import parse_arguments


@checked_dataclass(frozen=True)
class Train:
    steps: Annotated[int, Field(gt=0)] = 3
    log_every: Annotated[int, Field(gt=0)] = 1


@dataclass(frozen=True)
class Run:
    folder: tyro.conf.Positional[Path]
    train: Train
    precision: Literal["bf16", "fp32"] = "fp32"
    rate: float | None = None
    device: Literal["cpu", "cuda"] | None = None


@dataclass(frozen=True)
class Look:
    folder: tyro.conf.Positional[Path]


Command = Annotated[Run, tyro.conf.subcommand("run")] | Annotated[Look, tyro.conf.subcommand("look")]


def test_good_arguments_are_parsed():
    assert parse_arguments(Command, ["look", "here"], prog="spe it") == Look(Path("here"))
    assert parse_arguments(Run, ["here", "--rate", "0.5"], prog="spe it") == Run(Path("here"), Train(), rate=0.5)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("", "say what to do: run, look"),
        ("lok here", "unknown argument lok; there are run, look"),
        ("look", "missing: PATH"),
        ("look here there", "unknown argument there"),
        ("run here --precisoin fp32", "unknown argument --precisoin; did you mean --precision?"),
        ("run here --precision fp8", "--precision fp8: not one of bf16, fp32"),
        ("run here --device gpu", "--device gpu: not one of cpu, cuda"),
        ("run here --precision", "--precision needs a value"),
        ("run here --train.steps many", "--train.steps many: not a whole number"),
        ("run here --train.steps", "--train.steps needs a value"),
        ("run here --train.steps 0", "train.steps 0: input should be greater than 0"),
        ("run here --train.steps 0 --train.log-every -1", "train.log_every -1: input should be greater than 0"),
        ("run here --rate x", "--rate x: not a number"),
    ],
)
def test_a_mistake_is_one_line(arguments, told, capsys):
    with pytest.raises(UserError) as error:
        parse_arguments(Command, arguments.split(), prog="spe it")
    line = str(error.value)
    assert told in line and line.endswith("--help` says more)") and "`spe it" in line
    assert "\n" not in line and "http" not in line and "│" not in line
    assert capsys.readouterr() == ("", "")


def test_help_is_printed(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(Command, ["--help"], prog="spe it")
    assert "usage: spe it" in capsys.readouterr().out
