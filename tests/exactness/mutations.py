"""Do the tests see it? Plants a fault in a copy of the project and runs the tests that should turn red.

    python -m tests.exactness.mutations                         all of them; --out FOLDER: mutations.json, mutations.md
    python -m tests.exactness.mutations --only "a lane dropped"

`make test` checks that every fault can still be planted (test_mutations.py) and that the tests are green without any;
running them all takes a quarter of an hour, and `make test-exact` does it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MOCO, EXACT = "tests/unit/spe_dist/moco", "tests/exactness"
STEP = "        self.engine.step(learning_rate)\n"
AFTER_STEP = "        self.metrics.add_step_metrics(self.method.after_step(self.engine))\n"
KEEP_KEYS = "        self._keys.append((batch.record_ids, keys))\n"


@dataclass(frozen=True)
class Fault:
    """A fault, where it goes, and tests of which at least one must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


FAULTS = (
    Fault(
        "means of lane means",
        "spe_dist/train/session.py",
        "self.engine.backward((losses * self._scale).sum())",
        "self.engine.backward((losses * self._weights / batch.counts.clamp(min=1)).sum() / self.plan.lanes)",
        (f"{EXACT}/test_topology.py",),
    ),
    Fault(
        "keys enqueued in rank order of arrival",
        "spe_dist/engine/global_order_gather.py",
        "for part, count in zip(self._gathered, self._rows_of_ranks, strict=True)",
        "for part, count in reversed(list(zip(self._gathered, self._rows_of_ranks, strict=True)))",
        (
            f"{MOCO}/test_gather.py",
            f"{EXACT}/test_elastic_schedule.py",
        ),
    ),
    Fault(
        "key encoder in bf16",
        "spe_dist/moco/momentum_encoder.py",
        "copy.deepcopy(query_encoder).float()",
        "copy.deepcopy(query_encoder).bfloat16()",
        (f"{MOCO}/test_momentum_encoder.py", f"{EXACT}/test_key_encoder.py"),
    ),
    Fault(
        "keys by what was before a checkpoint",
        "spe_dist/moco/momentum_encoder.py",
        "self._moved = True  # as far as can be known here",
        "pass",
        (f"{MOCO}/test_momentum_encoder.py",),
    ),
    Fault(
        "a queue not restored",
        "spe_dist/checkpoint/training_state.py",
        "    for name, target in extra_tensors.items():\n        _copy(",
        "    for name, target in extra_tensors.items():\n        name.startswith('queue.') or _copy(",
        (f"{EXACT}/test_resume.py",),
    ),
    Fault(
        "moments zeroed",
        "spe_dist/engine/deepspeed_engine.py",
        "self._set_adam(step=adam_step, clear_moments=False)",
        "self._set_adam(step=adam_step, clear_moments=True)",
        ("tests/distributed/test_engine_state.py", f"{EXACT}/test_resume.py"),
    ),
    Fault(
        "decay on norms",
        "spe_dist/engine/param_groups.py",
        "if (param.ndim > 1) == decays:",
        "if (param.ndim > 0) == decays:",
        ("tests/unit/spe_dist/engine/test_param_groups.py",),
    ),
    Fault(
        "masks keyed by rank",
        "spe_dist/batches/random_draws.py",
        "(_COLLATE, seed, step, lane)",
        "(_COLLATE, seed, step, lane, int(__import__('os').environ.get('RANK', '0')))",
        ("tests/unit/spe_dist/methods/spe/test_collate.py", f"{EXACT}/test_topology.py"),
    ),
    Fault(
        "relations compared without the gradients of other ranks",
        "spe_dist/methods/erica/method.py",
        "gradient = world.all_reduce(",
        "gradient = (",
        (f"{EXACT}/test_topology.py",),
    ),
    Fault(
        "facts counted on the first rank",
        "spe_dist/methods/erica/method.py",
        '{"rd": len(own.draws.anchors), ',
        '{"rd": len(own.draws.anchors) * world.is_first, ',
        (f"{EXACT}/test_topology.py",),
    ),
    Fault(
        "encoded again with other dropout",
        "spe_dist/methods/erica/method.py",
        "            self._set_random_state(prepared.random_state)\n",
        "            pass\n",
        ("tests/unit/spe_dist/methods/erica/test_method.py",),
    ),
    Fault(
        "no relation is the first relation",
        "spe_dist/methods/erica/fact_pairs.py",
        "NA = -1 ",
        "NA = 0 ",
        ("tests/paper/erica/test_relation_discrimination.py::test_candidates_of_relation_discrimination",),
    ),
    Fault(
        "facts of the relation among the negatives",
        "spe_dist/methods/erica/relation_discrimination.py",
        "return ~(holds | shares)",
        "return ~shares",
        ("tests/paper/erica/test_relation_discrimination.py::test_relation_discrimination_of_a_step",),
    ),
    Fault(
        "blocked pairs among the negatives",
        "spe_dist/methods/erica/collate.py",
        "unrelated_pairs(records, (facts, unknown), ",
        "unrelated_pairs(records, (facts,), ",
        ("tests/paper/erica/test_relation_discrimination.py::test_candidates_of_relation_discrimination",),
    ),
    Fault(
        "blocked pairs among the candidates",
        "spe_dist/methods/erica/questions.py",
        "    left_out |= np.isin(entities, unknown.tails[of_head])\n",
        "",
        ("tests/paper/erica/test_erica_of_a_step.py::test_entity_discrimination",),
    ),
    Fault(
        "other true tails among the candidates",
        "spe_dist/methods/erica/questions.py",
        "        left_out |= np.isin(entities, facts.tails[same])",
        "        left_out |= np.isin(entities, facts.tails[same][:0])",
        ("tests/paper/erica/test_erica_of_a_step.py::test_entity_discrimination",),
    ),
    Fault(
        "a lane dropped",
        "spe_dist/engine/batch_plan.py",
        "mine = self.lanes_of_rank(rank)",
        "mine = self.lanes_of_rank(rank)[: -1 if rank else None]",
        ("tests/unit/spe_dist/engine/test_batch_plan.py", "tests/unit/spe_dist/batches/test_loader.py"),
    ),
    Fault(
        "a lane doubled",
        "spe_dist/engine/batch_plan.py",
        "mine = self.lanes_of_rank(rank)",
        "mine = [*self.lanes_of_rank(rank)][: 1 if rank else None] + [*self.lanes_of_rank(rank)][0 if rank else 1 :]",
        ("tests/unit/spe_dist/engine/test_batch_plan.py", "tests/unit/spe_dist/batches/test_loader.py"),
    ),
    Fault(
        "dropout left on for keys",
        "spe_dist/moco/momentum_encoder.py",
        ".to(device).eval()",
        ".to(device).train()",
        (f"{MOCO}/test_momentum_encoder.py", "tests/paper/test_figure_6.py"),
    ),
    Fault(
        "compute weights not restored",
        "spe_dist/train/session.py",
        "load_masters_into(method.model, checkpoint.get)",
        "pass",
        (f"{EXACT}/test_resume.py",),
    ),
    Fault(
        "a checkpoint in the background that training still changes",
        "spe_dist/checkpoint/snapshot.py",
        "            return buffer.copy_(tensor.detach())",
        "            return tensor.detach()",
        ("tests/unit/spe_dist/checkpoint/test_background.py", f"{EXACT}/test_resume.py"),
    ),
    Fault(
        "an update that does not wait until a checkpoint's state is copied",
        "spe_dist/train/session.py",
        "        self._host_buffers.wait_for_copies()\n" + STEP,
        STEP,
        ("tests/distributed/test_forwards_cut_by_pieces.py",),
    ),
    Fault(
        "forwards cut by pieces that lose the lanes after the first cut",
        "spe_dist/batches/loader.py",
        "            first += len(rows)\n",
        "            first = len(rows)\n",
        ("tests/unit/spe_dist/batches/test_loader.py",),
    ),
    Fault(
        "random generators not restored",
        "spe_dist/checkpoint/training_state.py",
        "    if same_world:\n",
        "    if same_world and not engine:\n",
        (f"{EXACT}/test_resume.py",),
    ),
    Fault(
        "Adam's step not restored",
        "spe_dist/engine/deepspeed_engine.py",
        "self._set_adam(step=adam_step, clear_moments=False)",
        "self._set_adam(step=0, clear_moments=False)",
        ("tests/distributed/test_engine_state.py", f"{EXACT}/test_resume.py"),
    ),
    Fault(
        "warm-up begins anew after a restart",
        "spe_dist/train/loop.py",
        "session.take_step(batches, _learning_rate(config, step))",
        "session.take_step(batches, _learning_rate(config, step - session.first_step))",
        (f"{EXACT}/test_resume.py",),
    ),
    Fault(
        "gradients averaged over ranks",
        "spe_dist/engine/deepspeed_engine.py",
        "self._engine.backward(loss * self.world.size, scale_wrt_gas=False)",
        "self._engine.backward(loss, scale_wrt_gas=False)",
        ("tests/distributed/test_engine_step.py",),
    ),
    Fault(
        "negatives of the step itself",
        "spe_dist/methods/spe/method.py",
        KEEP_KEYS,
        KEEP_KEYS + "        self.queue.enqueue(batch.record_ids, *keys.chunk(2))\n",
        ("tests/paper/test_figure_6.py",),
    ),
    Fault(
        "key encoder moved before the optimizer's step",
        "spe_dist/train/session.py",
        STEP + AFTER_STEP,
        AFTER_STEP + STEP,
        (f"{EXACT}/test_key_encoder.py",),
    ),
    Fault(
        "a queue that starts again at slot 0 when it is full",
        "spe_dist/moco/key_queue.py",
        "first = int(self.enqueued)\n",
        "first = int(self.enqueued) if int(self.enqueued) < self.size else 0\n",
        (f"{MOCO}/test_key_queue.py", f"{EXACT}/test_topology.py"),
    ),
)


def plant(fault: Fault, root: Path) -> None:
    """Put a fault into a copy of the project.

    Raises:
        ValueError: the place is not there, or not there once.
    """
    path = root / fault.file
    text = path.read_text()
    if text.count(fault.old) != 1:
        raise ValueError(f"{fault.name}: {fault.file} holds {text.count(fault.old)} times {fault.old!r}")
    path.write_text(text.replace(fault.old, fault.new))


def try_fault(fault: Fault) -> dict:
    """The first test that saw a fault, if one did."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        ignored = shutil.ignore_patterns(".git", ".venv", "data", "runs", "docs", "__pycache__", "*.egg-info")
        shutil.copytree(ROOT, copy, ignore=ignored)
        plant(fault, copy)
        started = time.monotonic()
        done = run_tests(copy, fault.tests, "-x")
    failed = re.findall(r"^FAILED (\S+)", done.stdout, flags=re.MULTILINE)
    seconds = round(time.monotonic() - started)
    return {**asdict(fault), "seen": done.returncode == 1 and bool(failed), "failed": failed, "seconds": seconds}


def run_tests(root: Path, tests: Sequence[str], *options: str) -> subprocess.CompletedProcess[str]:
    """Run tests of a checkout, on its own code."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=no", "--no-showlocals", "-p", "no:cacheprovider", *options]
    # A fault may leave ranks waiting for each other.
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "SPE_DIST_RANKS_TIMEOUT": "400"}
    return subprocess.run([*command, *tests], cwd=root, env=environment, capture_output=True, text=True)


def table(results: list[dict]) -> str:
    """Markdown."""
    lines = ["| planted fault | in | first red test |", "|---|---|---|"]
    for result in results:
        test = result["failed"][0] if result["failed"] else "**none**"
        lines.append(f"| {result['name']} | `{result['file']}` | `{test.removeprefix('tests/')}` |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Plant every fault, one at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for mutations.json and mutations.md")
    parser.add_argument("--only", choices=[fault.name for fault in FAULTS])
    arguments = parser.parse_args()
    if arguments.only and arguments.out:
        parser.error("--out is for all faults")
    results = []
    for fault in FAULTS:
        if arguments.only in (None, fault.name):
            results.append(try_fault(fault))
            last = results[-1]
            print(f"{'seen' if last['seen'] else 'NOT SEEN'}  {fault.name}: {last['failed']}", flush=True)  # noqa: T201
    if arguments.out:
        (arguments.out / "mutations.json").write_text(json.dumps(results, indent=1) + "\n")
        (arguments.out / "mutations.md").write_text(table(results))
    sys.exit(0 if all(result["seen"] for result in results) else 1)


if __name__ == "__main__":
    main()
