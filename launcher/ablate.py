"""`spe ablate`: pre-train and fine-tune the SPE paper's ablations, and compare each with the full method.

    spe ablate --shards DIR --train FILE --dev FILE --test FILE --seeds 5
    spe ablate --variants full no_spo none

Short for settings: --shards (pretrain.data.shards), --steps (pretrain.train.steps), --train, --dev, --test and
--fraction (finetune.data.…), --seeds (finetune.seeds), --name (run.name). `--config` selects a recipe other than
ablations_cpu.yaml. `--dry-run` lists the runs.

Every variant is a normal `spe pretrain` and `spe finetune` run in the folder of the ablations. Finished runs are not
repeated. The folder also holds the table: ablations.md and ablations.json.

Exit status: as of `spe finetune`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import launcher
from cluster.submitted_job import with_absolute_paths
from data_shards.annotated.read import read_annotated
from data_shards.errors import UserError
from data_shards.files import explain_write_errors, write_atomically
from data_shards.shards.manifest import load as load_manifest
from data_shards.stop_requests import STOPPED, Stopped, every_request, stopped_on_request
from launcher.arguments import parse_arguments
from launcher.finetune import with_absolute_folders
from launcher.recipe_arguments import RECIPES, spelled_out, split_recipe
from spe_dist.config import Config
from spe_dist.extraction.ablation import (
    SCORING,
    VARIANTS,
    AblationConfig,
    VariantName,
    ablation_json,
    ablation_table,
    check_variants,
    describe_sizes,
    finetuning,
    pretraining,
    read_ablation,
    score_ablations,
)
from spe_dist.finetuning.config import FinetuneConfig
from spe_dist.finetuning.folder import check_same_run, read_result
from spe_dist.finetuning.predictions import read_run
from spe_dist.methods.spe.config import SpeConfig
from spe_dist.recipe import config_values, config_yaml, load_recipe
from spe_dist.settings import differences, differences_text
from spe_dist.train.run_folder import CONFIG
from spe_dist.train.run_storage import newest_step

DEFAULT = RECIPES / "ablations_cpu.yaml"
# Settings of pre-training that change no result.
FREE = (
    *(
        "run.name",
        "run.folder",
        "data.cache",
        "data.workers",
        "batch.lanes_per_forward",
        "cluster",
        "compute",
        "kernels",
    ),
    *("train.zero_stage", "train.log_every", "train.checkpoint_every", "train.keep_last", "train.keep_every"),
    *("train.failed_saves", "train.profile_steps"),
)
_STOPPED_TEXT = "stopped on request; the same command resumes"
SHORT = {
    "--shards": "--pretrain.data.shards",
    "--steps": "--pretrain.train.steps",
    "--train": "--finetune.data.train",
    "--dev": "--finetune.data.dev",
    "--test": "--finetune.data.test",
    "--fraction": "--finetune.data.fraction",
    "--seeds": "--finetune.seeds",
    "--name": "--run.name",
}


def main(arguments: list[str]) -> None:
    """Run every variant and print the table.

    Raises:
        UserError: anything that the person at the keyboard can fix; a run of a variant has failed.
        Stopped: as asked.
    """
    config = read_arguments([argument for argument in arguments if argument != "--dry-run"])
    _check_files(config)
    if "--dry-run" in arguments:
        print("\n".join(_describe(config)))
        return
    done: list[VariantName] = []
    with stopped_on_request(_STOPPED_TEXT):
        for name in config.variants:
            _pretrain(config, name)
            _finetune(config, name)
            done.append(name)
            table = _write_table(config, done)
    print(f"\n{table}\nin {config.folder}: ablations.md, ablations.json")


def _check_files(config: AblationConfig) -> None:
    """Fine-tuning reads them, after hours of pre-training."""
    data = config.finetune.data
    for name, file in (("train", data.train), ("dev", data.dev), ("test", data.test)):
        if file is not None and not Path(file).is_file():
            raise UserError(f"finetune.data.{name}: {file}: no such file; name one with --{name}")


def read_arguments(arguments: list[str]) -> AblationConfig:
    """The configuration, with absolute paths.

    Raises:
        UserError: the recipe or a setting is wrong.
    """
    path, rest = split_recipe(spelled_out(arguments, SHORT), default=DEFAULT)
    config: AblationConfig = parse_arguments(
        AblationConfig, rest, default=read_ablation(path), prog="spe ablate", description=__doc__
    )
    check_variants(config.variants)
    if config.finetune.data.test is None:
        raise UserError("finetune.data.test is null: name the sentences to test with (--test)")
    return with_absolute_paths(
        config, paths=("run.folder", "pretrain.data.shards"), names=("pretrain.encoder.name_or_path",)
    )


def _describe(config: AblationConfig) -> list[str]:
    lines = []
    for name in config.variants:
        before, after = pretraining(config, name), finetuning(config, name)
        first = "no pre-training" if before is None else f"{before.train.steps} steps in {before.run_folder}"
        lines.append(f"{VARIANTS[name].title}: {first}; {after.seeds} seeds in {after.run_folder}")
    return lines


def _check_language(config: AblationConfig) -> None:
    """The variant without pre-training has no run to ask whose rules cut raw text."""
    shards, language = config.pretrain.data.shards, config.finetune.start.language
    rules = load_manifest(shards).language
    if rules != language:
        raise UserError(
            f"{shards} was split by the rules of {rules}, but finetune.start.language is {language}: annotated text "
            f"would be split differently without pre-training; give --finetune.start.language {rules}"
        )


def _pretrain(config: AblationConfig, name: VariantName) -> None:
    run = pretraining(config, name)
    if run is None:
        return
    _check_same_pretraining(run)
    if newest_step(run) == run.train.steps:
        return
    _check_language(config)
    path = _write_recipe(run, f"pretrain-{run.run.name}", config.folder)
    print(f"== {VARIANTS[name].title}: pre-training, {run.run_folder}", flush=True)
    _call([str(Path(launcher.__file__).parent / "pretrain.py"), "--config", str(path)], f"{name}: pre-training")


def _check_same_pretraining(run: SpeConfig) -> None:
    """Stricter than pre-training itself, which may go on with other steps or another rate: the table states them."""
    path = Path(run.run_folder) / CONFIG
    if not path.is_file():
        return
    changed = differences(config_values(load_recipe(path)), config_values(run), free=FREE)
    if changed:
        raise UserError(
            f"{run.run_folder} holds a pre-training of other settings ({differences_text(changed)}): "
            "give these ablations their own run.name"
        )


def _finetune(config: AblationConfig, name: VariantName) -> None:
    run = with_absolute_folders(finetuning(config, name))
    check_same_run(run)
    if all(read_result(seed) is not None for seed in run.of_each_seed()):
        return
    if VARIANTS[name].weights == "momentum":
        from spe_dist.export.export_run import export_run

        before = pretraining(config, name)
        assert before is not None
        export_run(Path(before.run_folder), Path(run.start.pretrained), weights="momentum")
    path = _write_recipe(run, f"finetune-{name}", config.folder)
    print(f"== {VARIANTS[name].title}: fine-tuning, {run.run_folder}", flush=True)
    _call(["-m", "launcher.cli", "finetune", "--config", str(path)], f"{name}: fine-tuning")


def _write_recipe(run: Config | FinetuneConfig, name: str, folder: Path) -> Path:
    with explain_write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{name}.yaml", config_yaml(run).encode())
    return folder / f"{name}.yaml"


def _call(arguments: Sequence[str], what: str) -> None:
    """Run a command of ours to its end; signals go to it, and it knows how to end well."""
    root = str(Path(launcher.__file__).parent.parent)  # where `-m launcher.cli` finds what this process runs
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    # A session of its own: else Ctrl-C would reach it from the terminal and from us, and twice means at once.
    child = subprocess.Popen(
        [sys.executable, *arguments], env=os.environ | {"PYTHONPATH": paths}, start_new_session=True
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
        raise UserError(f"{what} ended with status {status}, see above; the same command resumes")


def _write_table(config: AblationConfig, done: Sequence[VariantName]) -> str:
    rows = score_ablations(config, done)
    data = config.finetune.data
    language = config.finetune.start.language
    sentences = len(read_annotated(Path(data.train), language=language, offsets=data.offsets)[0])
    about = describe_sizes(
        config,
        train_sentences=max(1, round(data.fraction * sentences)),
        test_sentences=len(read_run(SCORING, Path(finetuning(config, done[0]).run_folder)).gold),
        seeds=min(len(row.seeds) for row in rows),
    )
    table = ablation_table(rows, about)
    with explain_write_errors(config.folder):
        write_atomically(config.folder / "ablations.md", table.encode())
        content = json.dumps(ablation_json(rows, about), indent=1) + "\n"
        write_atomically(config.folder / "ablations.json", content.encode())
    return table
