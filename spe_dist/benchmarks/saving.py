"""What saving costs a run, and what a restart does: real runs on real ranks, one with saves and one without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from data_shards.counted import counted
from data_shards.errors import UserError
from spe_dist.benchmarks.timing import Timed
from spe_dist.config import Config
from spe_dist.recipe import config_yaml, load_recipe
from spe_dist.train.loop import train
from spe_dist.train.run_log import read_metrics
from spe_dist.train.start_times import read_starts

STEPS_PER_SAVE = 20


def measure_saving(config: Config, *, repeats: int) -> list[Timed]:
    """Intervals of 20 steps without and with a save, the waiting in them, and the parts of a restart.

    The first interval of a run has no save before it and is left out.
    """
    with tempfile.TemporaryDirectory() as folder:
        steps = (repeats + 1) * STEPS_PER_SAVE
        never, often = _variant(config, folder, "never", steps), _variant(config, folder, "often", steps)
        never = replace(never, train=replace(never.train, checkpoint_every=steps))
        for variant in (never, often):
            _run(variant)
        longer = replace(often, train=replace(often.train, steps=steps + 1))
        _run(longer)
        intervals = {variant.run.name: read_metrics(Path(variant.run_folder)) for variant in (never, often)}
        start = read_starts(Path(often.run_folder))[-1]
        size = max(_bytes(path) for path in Path(often.run_folder, "checkpoints").iterdir())
    rows = []
    for name, lines in intervals.items():
        measured = lines[1 : repeats + 1]
        seconds = [line["seconds_per_step"] * STEPS_PER_SAVE for line in measured]
        waits = [line["saving_share"] * of for line, of in zip(measured, seconds, strict=True)]
        notes: dict[str, float | str] = {"waiting for saves": f"{sum(waits) / sum(seconds):.2%}"}
        case = f"{STEPS_PER_SAVE} steps, {counted(config.cluster.workers, 'rank')}"
        rows.append(Timed(case, f"{name} saved", seconds, notes))
        if name == "often":
            rows.append(Timed("a save", "training waits", waits, {"MB": size / 1e6}))
    rows += [Timed("restart", part, [seconds]) for part, seconds in start["seconds"].items()]
    return rows


def _variant(config: Config, folder: str, name: str, steps: int) -> Config:
    run = replace(config.run, folder=folder, name=name)
    train = replace(config.train, steps=steps, checkpoint_every=STEPS_PER_SAVE, log_every=STEPS_PER_SAVE, keep_last=2)
    return replace(config, run=run, train=train)


def _run(config: Config) -> None:
    """Train in processes of their own, as a person's run does."""
    folder = Path(config.run.folder)
    recipe = folder / f"{config.run.name}.yaml"
    recipe.write_text(config_yaml(config))
    ranks = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(config.cluster.workers)]
    environment = os.environ | {"OMP_NUM_THREADS": str(config.cluster.cpus_per_worker), "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        [sys.executable, *ranks, "-m", "spe_dist.benchmarks.saving", str(recipe)],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise UserError(f"the measured run failed ({last}): try the settings with `spe pretrain` first")


def _bytes(checkpoint: Path) -> int:
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    return sum(file["bytes"] for file in manifest["files"].values())


if __name__ == "__main__":
    train(load_recipe(Path(sys.argv[1])))
