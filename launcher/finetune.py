"""`spe finetune [TASK]`: fine-tune a pre-trained encoder, by default into an extractor of entities and relations.

    spe finetune --from RUN --train FILE --dev FILE --test FILE
    spe finetune --from bert --encoder NAME_OR_PATH --train FILE --dev FILE --seeds 5
    spe finetune --from RUN/seed-1/model --train FILE --dev FILE
    spe finetune document-relations --from RUN --train FILE --dev FILE --test FILE
    spe finetune sentence-relations --from RUN --train FILE --test FILE
    spe finetune entity-typing --from RUN --train FILE --dev FILE --test FILE
    spe finetune multi-choice --from RUN --train FILE --dev FILE --test FILE
    spe finetune extractive-qa --from RUN --train FILE --dev FILE --test FILE

Short for settings: --from (start.pretrained), --encoder (encoder.name-or-path), --train, --dev and --test (data.…),
--fraction (data.fraction), --offsets (data.offsets), --seed (run.seed), --name (run.name), --parallel
(cluster.parallel), --track (run.track). `--config` selects a recipe other than the paper's: a file, or the name of one
in launcher/recipes, such as finetune_cpu; its `task` selects the task (default: extraction). TASK selects the recipe
finetune_TASK. `--dry-run` prints what would be read, loaded and trained.

Several seeds are trained with Ray, as many at the same time as there are cores or GPUs. Finished seeds are not
trained again, and killed ones resume. Scores over all seeds are printed and written to RUN/scores; scores on dev are
written to RUN/dev/scores.

Exit status: 0: all seeds are done; 75 (EX_TEMPFAIL): stopped on request; 1: an error, printed in one line (with
several seeds, all seeds that did not fail are done).
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from cluster.submitted_job import with_absolute_paths
from data_shards.errors import UserError
from data_shards.stop_requests import Stopped, stopped_on_request
from launcher.arguments import parse_arguments
from launcher.recipe_arguments import RECIPES, spelled_out, split_recipe
from spe_dist.finetuning.config import BERT, FinetuneConfig
from spe_dist.finetuning.folder import (
    MODEL,
    Result,
    check_same_run,
    check_start,
    format_result,
    read_result,
    seed_folder,
)
from spe_dist.recipe import config_values, read_values
from spe_dist.settings import flatten
from spe_dist.tasks import DEFAULT as DEFAULT_TASK
from spe_dist.tasks import TASKS, finetuning_config

STOPPED_TEXT = "stopped on request; the same command resumes from the newest checkpoints"

DEFAULT = RECIPES / "finetune_spe.yaml"
SHORT = {
    "--from": "--start.pretrained",
    "--encoder": "--encoder.name-or-path",
    "--train": "--data.train",
    "--dev": "--data.dev",
    "--test": "--data.test",
    "--fraction": "--data.fraction",
    "--offsets": "--data.offsets",
    "--seed": "--run.seed",
    "--name": "--run.name",
    "--parallel": "--cluster.parallel",
    "--track": "--run.track",
}


def main(arguments: list[str]) -> None:
    """Fine-tune, and print the scores of all seeds.

    Raises:
        UserError: anything that the person at the keyboard can fix; a seed has failed.
        Stopped: the run was stopped before its end.
    """
    config, dry_run = read_arguments(arguments)
    check_start(config)
    _check_gpus(config)
    if dry_run:
        from spe_dist.finetuning.loop import describe

        print(describe(config))
        return
    config = with_absolute_folders(config)
    with stopped_on_request(STOPPED_TEXT):
        if config.seeds == 1 and config.cluster.address is None:
            results, failures = _one_seed_here(config), dict[int, str]()
        else:
            results, failures = _seeds_on_ray(config)
    if results:
        _print_scores(config, results)
    if failures:
        raise UserError(f"{_told(failures)}; the same command retries what failed")


def with_absolute_folders(config: FinetuneConfig) -> FinetuneConfig:
    """The same fine-tuning with absolute paths, resolved here: seeds may be trained in other folders.

    Raises:
        UserError: a path is relative and this is a submitted job, whose working folder is a copy.
    """
    start = () if config.start.pretrained == BERT else ("start.pretrained",)
    return with_absolute_paths(
        config,
        paths=("run.folder", "data.train", "data.dev", "data.test"),
        names=(*start, "start.tokenizer", "encoder.name_or_path"),
    )


def _check_gpus(config: FinetuneConfig) -> None:
    """Are there the GPUs that are asked for, and is there one that cannot be used? A Ray that is joined has others."""
    from spe_dist.engine.machine import Machine

    cluster = config.cluster
    on_ray = config.seeds > 1 or cluster.address is not None
    if on_ray and (cluster.address or os.environ.get("RAY_ADDRESS")):
        return
    machine = Machine.here()
    if on_ray and cluster.gpus_per_seed and not machine.gpus:
        raise UserError(
            "cluster.gpus_per_seed is 1, but torch finds no usable GPU: remove the setting to train on the CPU"
        )
    note = machine.unused_gpus(machine.gpus)
    if note:
        print(note, flush=True)


def _one_seed_here(config: FinetuneConfig) -> list[Result]:
    from spe_dist.finetuning.loop import finetune

    _show_log()
    return [finetune(config)]


def _seeds_on_ray(config: FinetuneConfig) -> tuple[list[Result], dict[int, str]]:
    """Results of the seeds that came to their end, now or before, and why others did not."""
    from launcher.progress import shown_seeds

    check_same_run(config)
    seeds = config.of_each_seed()
    before = [result for seed in seeds if (result := read_result(seed)) is not None]
    for result in before:
        print(f"{format_result(result)} (done before)")
    done = {result.seed for result in before}
    waiting = {f"seed {seed.run.seed}": seed for seed in seeds if seed.run.seed not in done}
    if not waiting:
        return before, {}
    from cluster.finetune_on_ray import finetune_on_ray

    with shown_seeds({seed.run.seed: seed_folder(seed) for seed in waiting.values()}):
        outcome = finetune_on_ray(waiting, tell=lambda line: print(line, flush=True))
    if outcome.stopped:
        raise Stopped(STOPPED_TEXT)
    for result in sorted(outcome.results.values(), key=lambda result: result.seed):
        print(format_result(result))
    failures = {waiting[name].run.seed: reason for name, reason in outcome.failures.items()}
    return [*before, *outcome.results.values()], failures


def _print_scores(config: FinetuneConfig, results: list[Result]) -> None:
    from spe_dist.finetuning.score_report import report_run

    run, scoring = Path(config.run_folder), config.scoring()
    report, headline = report_run(scoring, run)
    print(f"\n{report}")
    best = max(results, key=lambda result: scoring.selection_score(result.dev))
    chosen = f"best seed on dev: {best.seed}; " if len(results) > 1 else ""
    print(f"{chosen}model: {run / f'seed-{best.seed}' / MODEL}")
    print(f"curves: tensorboard --logdir {run}")
    print(headline)


def _told(failures: dict[int, str]) -> str:
    """One line; seeds that failed for the same reason stand together."""
    reasons: dict[str, list[int]] = {}
    for seed, reason in sorted(failures.items()):
        reasons.setdefault(reason, []).append(seed)
    return "; ".join(
        f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))} failed: {reason}"
        for reason, seeds in reasons.items()
    )


def read_arguments(arguments: list[str]) -> tuple[FinetuneConfig, bool]:
    """The configuration, and whether to stop at a dry run."""
    rest = spelled_out([argument for argument in arguments if argument != "--dry-run"], SHORT)
    task, rest = _split_task(rest)
    path, rest = split_recipe(
        rest, default=DEFAULT if task in (None, DEFAULT_TASK) else RECIPES / f"finetune_{task}.yaml"
    )
    recipe = finetuning_config(read_values(path), source=str(path))
    if task not in (None, recipe.task):
        raise UserError(f"--config {path} is a recipe of the task {recipe.task}, not of {task}: name another recipe")
    _check_sections(rest, recipe)
    config: FinetuneConfig = parse_arguments(
        type(recipe), rest, default=recipe, prog="spe finetune", description=__doc__
    )
    names = {argument.partition("=")[0].replace("_", "-") for argument in rest}
    encoder = config.encoder.name_or_path
    if config.start.pretrained != BERT and SHORT["--encoder"] in names and encoder is not None:
        raise UserError(
            f"--encoder {encoder} would not be used, because the encoder of {config.start.pretrained} is: remove "
            "--encoder or --from"
        )
    return config, "--dry-run" in arguments


def _split_task(arguments: list[str]) -> tuple[str | None, list[str]]:
    """The task that is named before all options, as recipes write it, and the options."""
    if not arguments or arguments[0].startswith("-"):
        return None, arguments
    name = arguments[0].replace("-", "_")
    if name not in TASKS:
        offered = ", ".join(task.replace("_", "-") for task in TASKS)
        raise UserError(f"spe finetune {arguments[0]}: there is no such task; these are offered: {offered}")
    return name, arguments[1:]


def _check_sections(arguments: list[str], recipe: FinetuneConfig) -> None:
    """Refuse settings without their section, naming it."""
    known = flatten(config_values(recipe))
    for argument in arguments:
        name = argument.partition("=")[0].removeprefix("--").replace("-", "_")
        meant = [key for key in known if key.endswith(f".{name}")]
        if argument.startswith("--") and name not in known and meant:
            options = " or ".join(f"--{key.replace('_', '-')}" for key in meant)
            raise UserError(f"unknown option --{name.replace('_', '-')}, did you mean {options}?")


def _show_log() -> None:
    """What the run has to say, as it says it."""
    handler = _StandardOutput(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.addFilter(lambda record: record.name.startswith("spe_dist.") and record.exc_info is None)
    logging.getLogger().addHandler(handler)


class _StandardOutput(logging.StreamHandler):
    def handleError(self, record: logging.LogRecord) -> None:  # the library's name
        """Called while an error is handled; the default prints a traceback per line, and the run goes on."""
        raise
