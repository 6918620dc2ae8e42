"""`spe compare-pretraining`: pre-train variants, fine-tune all of them alike, and compare their scores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import tyro
import yaml

import spe_dist
from cluster.submitted_job import absolute_path, with_absolute_paths
from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.files import explain_write_errors, write_atomically
from data_shards.shards.reader import ShardReader
from data_shards.stop_requests import STOPPED, Stopped, every_request, stopped_on_request
from launcher.arguments import parse_arguments
from launcher.finetune import with_absolute_folders
from launcher.output import print_json, rounded, text_aside
from launcher.recipe_arguments import find_recipe
from spe_dist.comparison.comparison import Comparison, Pretraining
from spe_dist.comparison.config import ComparisonConfig, Settings, check_comparison, read_comparison
from spe_dist.comparison.cost import measured_step, read_cost
from spe_dist.comparison.report import comparison_json, comparison_table, draw_comparison
from spe_dist.comparison.scores import score_comparison
from spe_dist.config import Config
from spe_dist.finetuning.config import FinetuneConfig
from spe_dist.finetuning.folder import check_same_run, read_result, remove_models, seed_folder
from spe_dist.methods.registry import spec_of
from spe_dist.recipe import config_values, config_yaml, load_recipe
from spe_dist.settings import differences, differences_text
from spe_dist.train.run_folder import CONFIG, EXECUTION
from spe_dist.train.run_storage import kept_steps

TABLE = "comparison"
# Settings of pre-training that change no result.
FREE = (*EXECUTION, "run.name", "run.folder", "train.zero_stage", "train.log_every", "train.checkpoint_every",
        "train.keep_last", "train.keep_every", "train.failed_saves", "train.profile_steps",
        "train.gradients_every")  # fmt: skip
_STOPPED_TEXT = "stopped on request; the same command resumes"


@dataclass(frozen=True, kw_only=True)
class ComparePretraining:
    """Pre-train variants, fine-tune all of them alike on several tasks, and compare their scores in one table.

    spe compare-pretraining --config pretraining_comparison_cpu --pretrain data.shards=data/wiki --seeds 5

    The recipe (--config) names
    - the variants: recipes of pre-training, or none (the encoder as it is);
    - the tasks: recipes of fine-tuning with their data, shares of the training data, and settings to tune on dev;
    - the baselines that every variant is compared with; a variant may name its own;
    - the budget of a pre-training: word pieces, model FLOPs or hours;
    - figures that papers report, if any.

    `spe ablate` is the same command with the recipe of the SPE paper's ablations.

    The folder FOLDER/NAME then holds comparison.md, comparison.json and comparison.png: scores with standard
    deviations over seeds; differences with intervals and p-values of a paired bootstrap, corrected for the number of
    comparisons; the papers' figures, marked as such; and the cost of each pre-training. --report writes the table of
    the results so far, also while the command is running.

    Pre-trainings run one after another, each as spe pretrain; fine-tunings run on Ray, as many at a time as there are
    cores or GPUs. The same command resumes; what is done is not repeated. Fine-tunings keep scores and predictions, not
    models.

    Exit status: 0: everything is done; 75: stopped on request; 1: an error, printed in one line; everything else is
    done.
    """

    config: str
    """Recipe of the comparison: a file, or the name of one in launcher/recipes."""
    name: str | None = None
    """Name of the comparison and of its folder. Default: the recipe's."""
    folder: str | None = None
    """Folder of runs. Default: the recipe's."""
    variants: tuple[str, ...] = ()
    """Variants to run. Default: all of the recipe."""
    tasks: tuple[str, ...] = ()
    """Tasks to run. Default: all of the recipe."""
    seeds: int | None = None
    """Seeds of each fine-tuning. Default: the recipe's."""
    pretrain: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SETTING=VALUE"), tyro.conf.UseAppendAction] = ()
    """Setting of all pre-trainings, such as data.shards=DIR. Repeat it for several."""
    finetune: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SETTING=VALUE"), tyro.conf.UseAppendAction] = ()
    """Setting of all fine-tunings, such as train.epochs=10. Repeat it for several."""
    report: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write the table of the results so far, and stop."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print what would be run, and stop."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print what comparison.json holds; the text goes to standard error."""


def main(arguments: list[str], *, prog: str = "spe compare-pretraining") -> None:
    """Run every cell that is not done, and print the table.

    Raises:
        UserError: anything that the person at the keyboard can fix; a run has failed.
        Stopped: as asked.
    """
    command: ComparePretraining = parse_arguments(ComparePretraining, arguments, prog=prog)
    comparison = Comparison(read_settings(command), find_recipe)
    if not command.report:
        _check(comparison)
        if command.dry_run:
            print("\n".join(_describe(comparison)))
            return
    with text_aside(command.json):
        failures = {} if command.report else _run_all(comparison)
        print(f"{_write_table(comparison)}\nin {comparison.config.folder}: {TABLE}.*", flush=True)
    if command.json:
        print_json(json.loads((comparison.config.folder / f"{TABLE}.json").read_text()))
    if failures:
        name, reason = next(iter(failures.items()))
        more = f", and {len(failures) - 1} more (see above)" if len(failures) > 1 else ""
        raise UserError(f"{name} failed: {reason}{more}; the same command retries what failed")


def _run_all(comparison: Comparison) -> dict[str, str]:
    """Train what is not done yet; why runs have failed, by name."""
    with stopped_on_request(_STOPPED_TEXT), explain_write_errors(comparison.config.folder):
        failures = _pretrain_all(comparison)
        return failures | _finetune_all(
            comparison, [name for name in comparison.config.variants if name not in failures]
        )


def read_settings(command: ComparePretraining) -> ComparisonConfig:
    """The settings of the recipe, and those given in their place.

    Raises:
        UserError: the recipe or a setting is wrong.
    """
    if command.seeds is not None and command.seeds < 1:
        raise UserError(f"--seeds is {command.seeds}: it must be at least 1")
    config = read_comparison(find_recipe(command.config))
    for kind, names, known in (("variants", command.variants, config.variants), ("tasks", command.tasks, config.tasks)):
        unknown = [name for name in names if name not in known]
        if unknown:
            raise UserError(f"--{kind} {unknown[0]}: {command.config} has none of this name, but {', '.join(known)}")
    run = config.run
    config = replace(
        config,
        run=replace(
            run, name=command.name or run.name, folder=absolute_path(command.folder or run.folder, "run.folder")
        ),
        seeds=command.seeds or config.seeds,
        pretrain=config.pretrain | _settings("pretrain", command.pretrain),
        variants={name: config.variants[name] for name in command.variants or config.variants},
        tasks={
            name: replace(
                config.tasks[name], settings=config.tasks[name].settings | _settings("finetune", command.finetune)
            )
            for name in command.tasks or config.tasks
        },
    )
    check_comparison(config, source=command.config)
    return config


def _settings(option: str, parts: Sequence[str]) -> Settings:
    settings = {}
    for part in parts:
        name, equals, text = part.partition("=")
        if not equals:
            raise UserError(f"--{option} {part}: write SETTING=VALUE, such as train.steps=1000")
        try:
            settings[name.replace("-", "_")] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"--{option} {part}: {text} is not a value in YAML") from error
    return settings


def _check(comparison: Comparison) -> None:
    """Everything that hours of training would find out too late: settings, shards, and files of data."""
    tokenizers: dict[str, str] = {}
    for name, run in comparison.pretrainings.items():
        if isinstance(run, FinetuneConfig):
            _check_files(run, f"variants.{name}")
        elif run is not None:
            reader = ShardReader(run.data.shards, cache_dir=run.data.cache)
            spec_of(run).require_data(reader)
            tokenizers[reader.manifest.tokenizer.fingerprint] = run.data.shards
    if len(tokenizers) > 1:
        raise UserError(
            f"{' and '.join(tokenizers.values())} were built with different tokenizers, so pre-trainings on them "
            "cannot be compared: build them with the same one"
        )
    for column, variant in comparison.cells():
        for config in comparison.finetunings(column, variant):
            _check_files(config, f"tasks.{column.task}")


def _check_files(config: FinetuneConfig, source: str) -> None:
    for name in ("train", "dev", "test"):
        file = getattr(config.data, name)
        if file is not None and not Path(file).is_file():
            raise UserError(f"{source}: data.{name}: {file}: no such file")


def _describe(comparison: Comparison) -> list[str]:
    lines = []
    for name, variant in comparison.config.variants.items():
        run, length = comparison.pretrainings[name], ""
        if isinstance(run, Config) and comparison.measuring(name) is None:
            run = comparison.pretraining(name)
            assert isinstance(run, Config)
            length = f" of {run.train.steps:,} steps"
        told = "no pre-training" if run is None else f"pre-training{length} in {run.run_folder}"
        lines.append(f"{variant.title}: {told}")
    for column in comparison.columns:
        trials = len(comparison.points(column.task))
        lines.append(
            f"{column.title}: {counted(len(comparison.config.variants), 'variant')}, "
            f"{counted(trials, 'trial')} of {counted(comparison.config.seeds, 'seed')} each"
        )
    seeds = sum(len(config.of_each_seed()) for cell in comparison.cells() for config in comparison.finetunings(*cell))
    return [*lines, f"{seeds} fine-tunings in {comparison.config.folder}"]


def _pretrain_all(comparison: Comparison) -> dict[str, str]:
    """Train what is not trained yet; why pre-trainings have failed, by variant."""
    failures: dict[str, str] = {}
    for name in comparison.config.variants:
        try:
            run = _budgeted(comparison, name)
            if run is not None and not _is_done(run, comparison.config.variants[name].step):
                print(f"== {comparison.config.variants[name].title}: pre-training, {run.run_folder}", flush=True)
                _run(comparison, run, f"pretrain-{run.run.name}")
            _export_start(comparison, name)
        except UserError as error:
            failures[name] = str(error)
            print(f"{name} failed: {error}", flush=True)
    return failures


def _budgeted(comparison: Comparison, name: str) -> Pretraining | None:
    """The pre-training of a variant, of the length that the budget gives it."""
    measuring = comparison.measuring(name)
    if measuring is None:
        return comparison.pretraining(name)
    _check_same_pretraining(measuring)
    if measured_step(measuring) is None:
        print(f"== {comparison.config.variants[name].title}: measuring a step, {measuring.run_folder}", flush=True)
        _run(comparison, measuring, f"measured-{measuring.run.name}")
    measured = measured_step(measuring)
    if measured is None:
        raise UserError(f"{measuring.run_folder} has no speed of its steps: remove it, and start again")
    return comparison.pretraining(name, measured)


def _is_done(run: Pretraining, step: int | None) -> bool:
    if isinstance(run, FinetuneConfig):
        check_same_run(run)
        return read_result(run) is not None
    _check_same_pretraining(run)
    kept = kept_steps(run)
    return run.train.steps == max(kept, default=0) or step in kept


def _check_same_pretraining(run: Config) -> None:
    """Stricter than pre-training itself, which may go on with other steps or another rate: the table states them."""
    path = Path(run.run_folder) / CONFIG
    if not path.is_file():
        return
    changed = differences(config_values(load_recipe(path)), config_values(_absolute(run)), free=FREE)
    if changed:
        raise UserError(
            f"{run.run_folder} holds a pre-training of other settings ({differences_text(changed)}): "
            "give this comparison its own name (--name)"
        )


def _absolute(run: Any) -> Any:
    if isinstance(run, FinetuneConfig):
        return with_absolute_folders(run)
    return with_absolute_paths(run, paths=("run.folder", "data.shards"), names=("encoder.name_or_path",))


def _run(comparison: Comparison, run: Pretraining, name: str) -> None:
    """A normal run of its own process, which can be looked at and resumed alone.

    Raises:
        UserError: it has failed.
        Stopped: as asked.
    """
    path = comparison.config.folder / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, config_yaml(_absolute(run)).encode())
    command = "finetune" if isinstance(run, FinetuneConfig) else "pretrain"
    _call(["-m", "launcher.cli", command, "--config", str(path)], name)


def _call(arguments: Sequence[str], what: str) -> None:
    """Run a command of ours to its end; signals go to it, and it knows how to end well."""
    root = str(Path(spe_dist.__file__).parent.parent)  # where `-m launcher.cli` finds what this process runs
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    # A session of its own: else Ctrl-C would reach it from the terminal and from us, and twice means at once.
    child = subprocess.Popen(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": paths},
        stdout=sys.stdout,  # where our own text goes
        start_new_session=True,
    )
    requests: list[int] = []

    def pass_on(number: int) -> None:
        requests.append(number)
        child.send_signal(number)

    with every_request(pass_on):
        status = child.wait()
    if requests or status == STOPPED:
        raise Stopped(_STOPPED_TEXT)
    if status:
        raise UserError(f"{what} ended with status {status}, see above")


def _export_start(comparison: Comparison, name: str) -> None:
    """Export the moving average or an earlier step of a run, if a variant starts from it, for its fine-tuning."""
    variant, run = comparison.config.variants[name], comparison.pretrainings[name]
    out = Path(comparison.start(name))
    if isinstance(run, Config) and out != Path(run.run_folder) and not out.is_dir():
        from spe_dist.export.export_run import export_run

        export_run(Path(run.run_folder), out, weights=variant.weights, step=variant.step)


def _finetune_all(comparison: Comparison, variants: Collection[str]) -> dict[str, str]:
    """Fine-tune what is not done of these variants, a seed of every cell before the next seed."""
    seeds: dict[str, FinetuneConfig] = {}
    for column, variant in comparison.cells():
        if variant not in variants:
            continue
        configs = [with_absolute_folders(config) for config in comparison.finetunings(column, variant)]
        for trial, config in enumerate(configs, start=1):
            check_same_run(config)
            of = f", trial {trial}" if len(configs) > 1 else ""
            seeds |= {f"{variant}, {column.title}{of}, seed {one.run.seed}": one for one in config.of_each_seed()}
    waiting = {name: seed for name, seed in seeds.items() if read_result(seed) is None}
    waiting = dict(sorted(waiting.items(), key=lambda item: item[1].run.seed))
    if not waiting:
        return {}
    from cluster.finetune_on_ray import finetune_on_ray
    from launcher.progress import shown_fine_tunings

    print(f"{len(seeds) - len(waiting)} of {len(seeds)} fine-tunings were done before", flush=True)

    def wanted(name: str) -> bool:
        remove_models(list(seeds.values()))
        return True

    with shown_fine_tunings({name: seed_folder(seed) for name, seed in waiting.items()}, []):
        outcome = finetune_on_ray(waiting, tell=lambda line: print(line, flush=True), kind="fine-tuning", wanted=wanted)
    remove_models(list(seeds.values()))
    if outcome.stopped:
        raise Stopped(_STOPPED_TEXT)
    return outcome.failures


def _write_table(comparison: Comparison) -> str:
    folder = comparison.config.folder
    trained = {
        name: None if run is None else read_cost(run, step=comparison.config.variants[name].step)
        for name, run in comparison.pretrainings.items()
    }
    scored = score_comparison(comparison)
    table = comparison_table(comparison, trained, scored)
    content = json.dumps(rounded(comparison_json(comparison, trained, scored)), indent=1, ensure_ascii=False) + "\n"
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{TABLE}.md", table.encode())
        write_atomically(folder / f"{TABLE}.json", content.encode())
        if find_spec("matplotlib") is not None:
            draw_comparison(comparison, scored, folder / f"{TABLE}.png")
    return table
