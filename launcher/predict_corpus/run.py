"""`spe predict MODEL FILES --out FOLDER`: a corpus → shards and a manifest; the same command resumes."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.files import explain_write_errors, remove_temporary_files
from data_shards.input.stream import STANDARD_INPUT
from data_shards.pipeline.corpus import resolve_sources
from data_shards.pipeline.unit_pipeline import STOPPED_TEXT
from data_shards.stop_requests import stopped_on_request
from launcher.predict_corpus.bad_lines import BadLines
from launcher.predict_corpus.counts import Counts, speed_text
from launcher.predict_corpus.manifest import Manifest, Origin, begin, check_folder, require_same
from launcher.predict_corpus.on_ray import Workers, predict_on_ray, workers_on_ray
from launcher.predict_corpus.plan import MARKER_FOLDER, Plan, read_part
from launcher.predict_corpus.progress import Progress
from launcher.predict_corpus.shard import Shard, find_shard, load_extractor, write_shard
from spe_dist.engine.world import World
from spe_dist.train.run_lock import RunLock

if TYPE_CHECKING:
    from launcher.predict import Predict


@stopped_on_request(STOPPED_TEXT)
def predict_corpus(command: Predict, settings: Mapping[str, Any], progress: Progress) -> str:
    """Predict a corpus, or go on with it, or find it finished.

    Args:
        command: as it was typed, with a folder as `out`.
        settings: for `Extractor.from_pretrained`.
        progress: is told how far it is.

    Returns:
        What came out, for people.

    Raises:
        UserError: inputs, model, settings or folder are at fault; it says which and what to do.
        Stopped: somebody asked for it.
    """
    assert command.out is not None
    out = command.out.absolute()
    check_folder(out)
    with explain_write_errors(out), _alone_in(out), _workers(command) as workers:
        manifest, time_text = _predict(_plan(command, settings, out, workers), workers, progress)
        shutil.rmtree(out / MARKER_FOLDER, ignore_errors=True)
    return _summary_text(manifest, command.out, time_text)


@contextmanager
def _workers(command: Predict) -> Iterator[Workers | None]:
    if not command.ray:
        if command.workers is not None:
            raise UserError("--workers is for --ray: without it, one process predicts; add --ray, or remove it")
        yield None
        return
    with workers_on_ray(command.workers, command.device) as workers:
        yield workers


@contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    lock = RunLock(out / MARKER_FOLDER, World(), advice="give this one another --out, or stop the other")
    try:
        yield
    finally:
        remove_temporary_files(out)
        lock.release()


def _plan(command: Predict, settings: Mapping[str, Any], out: Path, workers: Workers | None) -> Plan:
    if command.records_per_file < 1:
        raise UserError(f"--records-per-file must be at least 1, not {command.records_per_file}")
    from spe_dist.engine.machine import find_device
    from spe_dist.extraction.predict.extractor import default_precision

    device = workers.device if workers else str(find_device(command.device))
    precision = command.precision or default_precision(device.partition(":")[0])
    return Plan(
        out=out,
        sources=resolve_sources(command.files or (STANDARD_INPUT,), command.input_format, out, default="text"),
        text_field=command.text_field,
        records_per_file=command.records_per_file,
        max_bad_lines=command.max_bad_lines,
        model=command.model.absolute(),
        settings={**settings, "device": device, "precision": precision},
    )


def _predict(plan: Plan, workers: Workers | None, progress: Progress) -> tuple[Manifest, str]:
    progress.size = sum(source.size for source in plan.sources)
    progress.phase = "hashing the inputs"
    origin = Origin.of(plan)
    found = Manifest.load(plan.out)
    if found is not None:
        require_same(plan.out, found.origin, origin)
        _require_shards(plan.out, found)
        return found, "already predicted"
    begin(plan.out, origin)
    run = _Run(plan, progress)
    for shard, reused in run.on_ray(workers) if workers else run.here():
        run.add(shard, reused)
    manifest = Manifest(origin, tuple(sorted(run.shards, key=lambda shard: shard.file)))
    manifest.save(plan.out)
    return manifest, run.time_text()


def _require_shards(out: Path, manifest: Manifest) -> None:
    for shard in manifest.shards:
        path = out / shard.file
        if not path.is_file() or path.stat().st_size != shard.bytes:
            raise UserError(f"{path} is missing or was changed: remove {out} and predict again")


class _Run:
    """The shards of a command, as they come."""

    def __init__(self, plan: Plan, progress: Progress) -> None:
        self.shards: list[Shard] = []
        self._plan, self._progress = plan, progress
        self._bad_lines = BadLines(plan.max_bad_lines)
        self._fresh: list[Counts] = []
        self._began = time.monotonic()
        progress.begin("loading the model")

    def here(self) -> Iterator[tuple[Shard, bool]]:
        """Predict with one extractor, shard by shard; gives each shard, and whether it was there."""
        extractor = None
        for unit in chain.from_iterable(read_part(self._plan, part) for part in range(len(self._plan.parts))):
            shard, read = find_shard(self._plan, unit), self._progress.read + unit.size
            if shard is not None:
                self._progress.add_finished(shard.counts.texts, unit.size)
                yield shard, True
                continue
            if extractor is None:
                extractor = load_extractor(self._plan)
                self._progress.begin("predicting")
            share = unit.size / sum(len(run.lines) for run in unit.runs)

            def count(characters: int, share: float = share) -> None:
                self._progress.add(1, share * characters)

            yield write_shard(self._plan, unit, extractor, count, self._progress.add_sentences), False
            self._progress.read = read

    def on_ray(self, workers: Workers) -> Iterator[tuple[Shard, bool]]:
        """The same with actors of Ray."""
        self._progress.begin(f"starting {counted(workers.count, 'worker')} on Ray")
        for shard, size, reused in predict_on_ray(self._plan, workers):
            count = self._progress.add_finished if reused else self._progress.add
            count(shard.counts.texts, size)
            yield shard, reused

    def add(self, shard: Shard, reused: bool) -> None:
        """Take in a shard.

        Raises:
            UserError: with it there are too many bad lines.
        """
        self.shards.append(shard)
        if not reused:
            self._fresh.append(shard.counts)
        if shard.bad_lines:
            self._bad_lines.add(*shard.bad_line_examples, count=shard.bad_lines)

    def time_text(self) -> str:
        """How long it took, and how much of it was done before."""
        seconds, counts = time.monotonic() - self._began, Counts.sum(self._fresh)
        text = speed_text(counts, seconds)
        if reused := len(self.shards) - len(self._fresh):
            text += f"; finished before: {reused:,} of {counted(len(self.shards), 'file')}"
        return text


def _summary_text(manifest: Manifest, out: Path, time_text: str) -> str:
    size = sum(shard.bytes for shard in manifest.shards)
    first = f"{out}: {counted(len(manifest.shards), 'file')} of JSON lines, {size / 1e6:,.1f} MB"
    return "\n".join([first, *manifest.counts.lines(manifest.bad_lines, time_text)])
