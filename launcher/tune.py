"""`spe tune`: find the best fine-tuning settings on dev, with the same trials for every start."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.files import explain_write_errors, write_atomically
from data_shards.stop_requests import Stopped, stopped_on_request
from launcher.arguments import parse_arguments
from launcher.finetune import SHORT, with_absolute_folders
from launcher.finetune import read_arguments as read_finetuning
from launcher.output import print_json, text_aside
from spe_dist.finetuning.config import BERT, FinetuneConfig
from spe_dist.finetuning.folder import check_same_run, check_start, read_result, remove_models, seed_folder
from spe_dist.finetuning.tuning import (
    Trial,
    Tuning,
    best_trial,
    check_same_tuning,
    names_of_starts,
    read_grid,
    read_trial,
    sections_to_tune,
)
from spe_dist.finetuning.tuning_report import recipe_path, settings_text, write_report

STOPPED_TEXT = "stopped on request; the same command resumes"
_ELAPSED = "elapsed.json"


@dataclass(frozen=True, kw_only=True)
class Tune:
    """Find the best fine-tuning settings on dev data, with the same trials for every start.

    spe tune --config finetune_cpu --train train.json --dev dev.json --seeds 3 --trials 8
        --from bert --encoder FOLDER --from runs/spe --from runs/enpar
        --grid optimizer.learning-rate=1e-4,2e-4,4e-4 --grid train.epochs=25,60

    A trial is a fine-tuning of several seeds with one combination of grid values. Trials are ranked by the score on dev
    that selects epochs (for extraction, entity F1 + strict relation F1), averaged over seeds. Every start (--from) gets
    the same trials. Test data are not read: fine-tune with the best settings to get test scores.

    The folder FOLDER/NAME then holds tuning.md and tuning.json (all trials of all starts: scores on dev, mean and
    standard deviation over seeds, the budget) and best-START.yaml (a recipe with the best settings of a start, for
    spe finetune --config). Trials keep their scores and predictions, not their models.

    Trials run on Ray, as many fine-tunings at a time as there are cores or GPUs. The same command resumes a stopped or
    killed tuning, also with a larger --trials, --hours or --seeds, or further starts.

    All other settings of spe finetune are the same in all trials: --SECTION.SETTING VALUE, such as --train.batch-size 8
    or --cluster.address auto (spe finetune --help lists them).

    Exit status: 0: all trials are done; 75: stopped on request; 1: an error, printed in one line; all other trials are
    done.
    """

    start: Annotated[tuple[str, ...], tyro.conf.arg(name="from"), tyro.conf.UseAppendAction] = ()
    """Starting weights: a run of spe pretrain, its export, a fine-tuned model, or bert (the encoder named by
    --encoder). Repeat it for several starts."""
    grid: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SETTING=VALUE,VALUE"), tyro.conf.UseAppendAction] = ()
    """Setting and values to try, or a YAML file of settings with lists of values. Repeat it for several settings; the
    grid is all combinations. Write list values in brackets: model.relation-sizes=[],[300,128]. Allowed: settings of
    model, sampling, optimizer and train, and dropouts of encoder."""
    trials: int | None = None
    """Maximum number of trials per start, drawn from the grid. Default: all combinations."""
    hours: float | None = None
    """Start no trial after this many hours, including those before a stop. A trial that has begun with one start is
    completed with all."""
    seeds: int = 3
    """Seeds of each trial: --seed and the numbers after it."""
    seed: int | None = None
    """First seed of each trial. Default: the recipe's."""
    draw: int = 1
    """Random seed for the order in which combinations are tried."""
    config: str | None = None
    """Fine-tuning recipe for all settings outside the grid: a file, or a name such as finetune_cpu. Default:
    finetune_spe."""
    train: str | None = None
    """File of annotated sentences for training."""
    dev: str | None = None
    """File of annotated sentences that selects the best epoch and the best trial."""
    fraction: float | None = None
    """Share of the training sentences to use."""
    offsets: str | None = None
    """Unit of entity offsets in the data: characters, utf16 or bytes (see spe data check)."""
    encoder: str | None = None
    """Hugging Face name or folder of the encoder for --from bert."""
    name: str = "tune"
    """Name of the tuning and of its folder in --run.folder."""
    parallel: int | None = None
    """Maximum number of fine-tunings at the same time. Default: as many as there are cores or GPUs."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print what would be tried, and stop."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print what tuning.json holds; the text goes to standard error."""


@dataclass
class _Budget:
    """Time that a tuning may take; a trial that has begun with one start is done with all of them."""

    folder: Path
    hours: float | None
    begun: set[int]
    used: float
    since: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Used so far."""
        return self.used + time.monotonic() - self.since

    def allows(self, number: int) -> bool:
        """Whether a trial may begin; then it has."""
        if number not in self.begun and self.hours is not None and self.seconds > self.hours * 3600:
            return False
        self.begun.add(number)
        self.keep()
        return True

    def keep(self) -> None:
        """Write down what is used, for the command that goes on."""
        write_atomically(self.folder / _ELAPSED, (json.dumps({"seconds": self.seconds}) + "\n").encode())


@dataclass(frozen=True)
class _Trial:
    """A trial to do: a point with one start."""

    start: str
    number: int
    settings: Mapping[str, object]
    config: FinetuneConfig

    @property
    def seeds(self) -> dict[str, FinetuneConfig]:
        """Configuration of each seed's fine-tuning, by its name in messages."""
        return {f"{self.start}, trial {self.number}, seed {seed.run.seed}": seed for seed in self.config.of_each_seed()}


def main(arguments: list[str]) -> None:
    """Run all trials and print the tables.

    Raises:
        UserError: anything that the person at the keyboard can fix; a trial has failed.
        Stopped: as asked.
    """
    command, tuning = read_arguments(arguments)
    trials = [
        _Trial(start, number, point, tuning.trial(start, number, point))
        for number, point in enumerate(tuning.points, start=1)
        for start in tuning.starts
    ]
    if command.dry_run:
        print("\n".join(_describe(tuning)))
        return
    for trial in trials:
        check_same_run(trial.config)
    check_same_tuning(tuning)
    with text_aside(command.json):
        with stopped_on_request(STOPPED_TEXT), explain_write_errors(tuning.folder):
            budget = _Budget(tuning.folder, command.hours, _begun(trials), _elapsed(tuning.folder))
            failures = _run(trials, budget)
            table = _report(command, tuning, trials, budget, failures)
        print(f"\n{table}\nin {tuning.folder}: tuning.md, tuning.json", flush=True)
    if command.json:
        print_json(json.loads((tuning.folder / "tuning.json").read_text()))
    if failures:
        name, reason = next(iter(failures.items()))
        more = f", and {len(failures) - 1} more (see above)" if len(failures) > 1 else ""
        raise UserError(f"{name} failed: {reason}{more}; the same command retries what failed")


def read_arguments(arguments: list[str]) -> tuple[Tune, Tuning]:
    """The command, and what it tunes.

    Raises:
        UserError: an argument, the recipe or a setting is wrong, or there is nothing to start from.
    """
    ours, fixed = _split(arguments)
    command: Tune = parse_arguments(Tune, ours, prog="spe tune")
    for name in ("trials", "hours", "seeds"):
        value = getattr(command, name)
        if value is not None and value <= 0:
            raise UserError(f"--{name} is {value:g}: it must be more than 0")
    starts = names_of_starts(command.start)
    if command.encoder is not None and BERT not in starts.values():
        raise UserError(f"--encoder {command.encoder} would not be used: it is the encoder of --from bert")
    configs = {name: _finetuning(command, start, fixed) for name, start in starts.items()}
    grid = read_grid(command.grid, sections_to_tune(next(iter(configs.values()))))
    twice = [name for name in fixed if name.removeprefix("--").replace("-", "_") in grid]
    if twice:
        raise UserError(f"{twice[0]} is given and also in the grid: remove one of them")
    folder = Path(next(iter(configs.values())).run.folder) / command.name
    tuning = Tuning(folder=folder, starts=configs, grid=grid, draw=command.draw, trials=command.trials)
    for config in configs.values():
        _check_files(config)
        check_start(config)
    return command, tuning


def _split(arguments: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Arguments of this command, and settings of fine-tuning: these have a section, and go on to the next option."""
    ours: list[str] = []
    fixed: dict[str, list[str]] = {}
    to = ours
    for argument in arguments:
        name = argument.partition("=")[0]
        if name in ("--test", "--data.test"):
            raise UserError(
                "spe tune reads no test data: remove --test, and give it to spe finetune --config best-START.yaml"
            )
        if argument.startswith("--"):
            to = fixed.setdefault(name, []) if "." in name else ours
        to.append(argument)
    short = {full: name for name, full in SHORT.items()}
    for name in fixed:
        if name.replace("_", "-") in short:
            raise UserError(f"{name} is {short[name.replace('_', '-')]} here: write that")
    return ours, fixed


def _finetuning(command: Tune, start: str, fixed: Mapping[str, Sequence[str]]) -> FinetuneConfig:
    """The fine-tuning from one start, with absolute paths and without test data."""
    arguments = ["--from", start, "--seeds", str(command.seeds)]
    for name in ("config", "train", "dev", "fraction", "offsets", "seed", "parallel"):
        if (value := getattr(command, name)) is not None:
            arguments += [f"--{name}", str(value)]
    if start == BERT and command.encoder is not None:
        arguments += ["--encoder", command.encoder]
    config, _ = read_finetuning([*arguments, *(part for parts in fixed.values() for part in parts)])
    return with_absolute_folders(replace(config, data=replace(config.data, test=None)))


def _check_files(config: FinetuneConfig) -> None:
    for name, file in (("train", config.data.train), ("dev", config.data.dev)):
        if file is not None and not Path(file).is_file():
            raise UserError(f"--{name}: {file}: no such file")


def _describe(tuning: Tuning) -> list[str]:
    points, config = tuning.points, next(iter(tuning.starts.values()))
    total = len(points) * len(tuning.starts) * config.seeds
    lines = [f"trial {number}: {settings_text(point)}" for number, point in enumerate(points, start=1)]
    return [
        *lines,
        f"each with {counted(config.seeds, 'seed')} from {', '.join(tuning.starts)}: "
        f"{counted(total, 'fine-tuning')} in {tuning.folder}",
    ]


def _run(trials: Sequence[_Trial], budget: _Budget) -> dict[str, str]:
    """Do what is not done yet, in order; why seeds have failed, by name."""
    from cluster.finetune_on_ray import finetune_on_ray
    from launcher.progress import shown_fine_tunings

    numbers = {name: trial.number for trial in trials for name in trial.seeds}
    waiting = {name: seed for trial in trials for name, seed in trial.seeds.items() if read_result(seed) is None}
    done = len(numbers) - len(waiting)
    if done:
        print(f"{done} of {len(numbers)} fine-tunings were done before", flush=True)
    if not any(budget.allows(numbers[name]) for name in list(waiting)[:1]):
        return {}
    first_of_start = {trial.start: next(iter(trial.seeds)) for trial in reversed(trials)}

    def wanted(name: str) -> bool:
        _remove_models_of(trials)
        return budget.allows(numbers[name])

    with shown_fine_tunings(
        {name: seed_folder(seed) for name, seed in waiting.items()},
        [name for name in first_of_start.values() if name in waiting],
    ):
        outcome = finetune_on_ray(waiting, tell=lambda line: print(line, flush=True), kind="fine-tuning", wanted=wanted)
    budget.keep()
    if outcome.stopped:
        raise Stopped(STOPPED_TEXT)
    return outcome.failures


def _report(
    command: Tune, tuning: Tuning, trials: Sequence[_Trial], budget: _Budget, failures: Mapping[str, str]
) -> str:
    """Write and return the tables of the trials that have begun."""
    _remove_models_of(trials)
    of_starts: dict[str, list[Trial]] = {start: [] for start in tuning.starts}
    for trial in trials:
        failure = next((failures[name] for name in trial.seeds if name in failures), None)
        read = read_trial(trial.config, trial.number, trial.settings, failure)
        if read is not None:
            of_starts[trial.start].append(read)
    limit = "no limit" if command.hours is None else f"{command.hours:g} h"
    table = write_report(tuning, of_starts, f"{limit}, {budget.seconds / 3600:.2f} h used")
    for start, of_start in of_starts.items():
        if (best := best_trial(of_start)) is not None:
            print(
                f"{start}: best is trial {best.number} ({settings_text(best.settings)}), {recipe_path(tuning, start)}"
            )
    return table


def _remove_models_of(trials: Sequence[_Trial]) -> None:
    remove_models([seed for trial in trials for seed in trial.config.of_each_seed()])


def _begun(trials: Sequence[_Trial]) -> set[int]:
    return {trial.number for trial in trials for seed in trial.seeds.values() if seed_folder(seed).is_dir()}


def _elapsed(folder: Path) -> float:
    path = folder / _ELAPSED
    return json.loads(path.read_text())["seconds"] if path.is_file() else 0.0
