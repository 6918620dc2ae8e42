"""`make gpu`: what a machine with a GPU says of this checkout, within ten minutes and without a network.

    python3 tests/gpu/session.py [--pack FOLDER] [--out FOLDER] [--only STAGE …] [--seconds 570] [--slower 1]

Each stage has a time limit, and what it finds is in the folder of results at once: summary.txt, log.txt (all output),
bench.jsonl (what `spe bench` writes) and metrics.jsonl (of the pre-training). A stage that fails is named, and the next
one begins. Without a GPU, stages that need none run with a small encoder on the CPU; then one line says what is left.
The pack is what `make gpu-pack` has written: wheels and data. Results: $GPU_OUT, else $OUT, else build/gpu_results.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sys.executable
SPE = [PYTHON, str(ROOT / "launcher" / "cli.py")]
ERICA = [PYTHON, "-c", "import tests.gpu.device; from launcher.cli import main; main()"]  # which needs no spaCy
TRACED = """
from functools import partialmethod
from launcher.cli import main
from spe_dist.models.sentence_encoder import SentenceEncoder
SentenceEncoder.compile_layers = partialmethod(SentenceEncoder.compile_layers, backend="eager")
main()
"""  # on a CPU: graphs are counted as on a GPU, and Inductor would take minutes
TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
SANITIZED = "tests/gpu/test_span_pool_on_gpu.py::test_values_places_and_gradients_are_those_of_the_definition[0]"
VERSIONS = """
import deepspeed, platform, torch, transformers
print("python", platform.python_version(), "torch", torch.__version__, "cuda", torch.version.cuda, end=" ")
print("deepspeed", deepspeed.__version__, "transformers", transformers.__version__)
print("device", torch.cuda.get_device_name() if torch.cuda.is_available() else "none")
"""
SMALL = ["--encoder.layers=2", "--encoder.hidden-size=64", "--encoder.heads=2", "--encoder.intermediate-size=128"]
BESIDE = ("records/s", "peak GiB", "rehearsed GiB")  # notes of spe bench step
SHOWN = ("step", "loss", "records_per_second", "mfu", "waiting_share", "saving_share", "memory_gib", "gradient_norm")


@dataclass(frozen=True)
class Stage:
    """A part of the session.

    Args:
        name: for people, and for --only.
        seconds: that it may take.
        command: to run.
        tell: lines for the summary out of what it has printed.
        on_cpu: whether it also runs without a GPU.
        meanwhile: called twice a second while it runs.
        fault: of what it has found although its command succeeded, or nothing.
    """

    name: str
    seconds: int
    command: Sequence[str]
    tell: Callable[[str], Sequence[str]] = lambda text: text.splitlines()[-1:]
    on_cpu: bool = False
    meanwhile: Callable[[], None] = lambda: None
    fault: Callable[[], str] = lambda: ""


class Session:
    """Runs stages one after another.

    Args:
        out: folder of results.
        environment: of the commands.
        seconds: for all of it.
        slower: times what stages may take.
    """

    def __init__(self, out: Path, environment: dict[str, str], seconds: float, slower: float) -> None:
        self.out, self.environment, self.slower = out, environment, slower
        self.began = time.monotonic()
        self.end = self.began + seconds
        self.failed: list[str] = []
        self.passed: list[str] = []
        out.mkdir(parents=True, exist_ok=True)

    def say(self, line: str) -> None:
        """Print a line and keep it, at once."""
        print(line, flush=True)
        with (self.out / "summary.txt").open("a") as file:
            file.write(f"{line}\n")

    def run(self, stage: Stage) -> str:
        """Run a stage, say how it went; gives what it printed."""
        left = self.end - time.monotonic()
        if left < 10:
            self.say(f"{stage.name}: no time left")
            self.failed.append(stage.name)
            return ""
        began, log = time.monotonic(), self.out / "log.txt"
        with log.open("ab") as file:
            file.write(f"\n== {stage.name}: {' '.join(stage.command)}\n".encode())
            file.flush()
            place = file.tell()
            process = subprocess.Popen(
                stage.command, cwd=ROOT, env=self.environment, stdout=file, stderr=file, start_new_session=True
            )
            status = _wait(process, min(self.slower * stage.seconds, left), stage.meanwhile)
        status, ended = status or stage.fault(), not status
        text = log.read_bytes()[place:].decode(errors="replace")
        (self.failed if status else self.passed).append(stage.name)
        self.say(f"{stage.name}: {status or 'passed'}, {time.monotonic() - began:.0f} s")
        for line in stage.tell(text) if ended else text.splitlines()[-6:]:
            self.say(f"    {line[:200]}")
        return text


def _wait(process: subprocess.Popen, seconds: float, meanwhile: Callable[[], None]) -> str:
    """Wait for a command, and end all that it has started; why it failed, or nothing."""
    end = time.monotonic() + seconds
    try:
        while process.poll() is None and time.monotonic() < end:
            meanwhile()
            time.sleep(0.5)
        status = process.poll()
    finally:  # also where the session itself is told to end
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
    if status is None:
        return f"not finished in {seconds:.0f} s"
    return "" if status == 0 else f"failed with exit status {status}"


def wheels_to_install(folder: Path) -> list[str]:
    """Wheels of packages that this Python does not have, or has in an older version."""
    from packaging.utils import parse_wheel_filename
    from packaging.version import Version

    wanted = []
    for wheel in sorted(folder.glob("*.whl")):
        name, version, *_ = parse_wheel_filename(wheel.name)
        try:
            if Version(metadata.version(name)) >= version:
                continue
        except metadata.PackageNotFoundError:
            pass
        wanted.append(str(wheel))
    return wanted


def stages(pack: Path, scratch: Path, out: Path, *, gpu: bool) -> list[Stage]:
    """All of them, the most telling first: should time run out, the last ones are left."""
    pytest = [PYTHON, "-m", "pytest", "-p", "no:cacheprovider", "--no-header", "--no-showlocals", "-rfP"]
    workers = ["-n", "4", "--dist", "loadfile"] if gpu and _is_there("pytest-xdist") else []
    small = [] if gpu else [*SMALL, *_lanes(2)]
    repeats = 5 if gpu else 1
    spe = ["--data.shards", str(pack / "shards"), *small]
    step = _bench(scratch, "step", repeats, "spe_wiki_1gpu", *spe)
    program = SPE if gpu else [PYTHON, "-c", TRACED]
    compiled = _bench(scratch, "step", repeats, "spe_wiki_1gpu", *spe, "--compute.compile", program=program)
    graphs = [*step, "--compute.compile", "--compute.graph-pieces=1024"]
    many = [*_lanes(256), "--batch.pieces-per-forward=10240"] if gpu else [*_lanes(4), "--batch.pieces-per-forward=512"]
    beside = partial(_beside_the_first_step, scratch, out)
    data = ["--data.shards", str(pack / "entity_shards")]
    enpar = _bench(scratch, "step", repeats, "enpar_wiki_1gpu", *data, *small)
    data = ["--data.shards", str(pack / "document_shards"), *(small or ["--batch.lanes=16"])]  # 512 documents of 4,096
    erica = _bench(scratch, "step", repeats, "erica_wiki_1gpu", *data, program=ERICA)
    made = [
        Stage("tests", 150 if gpu else 400, [*pytest, *workers, "tests/gpu"], _of_tests, on_cpu=True),
        Stage("step-256", 60, step, _table, on_cpu=True),
        Stage("ceilings", 40, _bench(scratch, "ceilings", repeats, "spe_wiki_1gpu"), _table),
        Stage("attention", 45, _bench(scratch, "attention", repeats), _table, on_cpu=True),
        *_whole_run(pack, scratch, out, gpu=gpu),
        Stage("step-1024", 60, [*step, *_lanes(128)], beside),
        Stage("span-pool", 60, _bench(scratch, "span-pool", repeats), _table),
        Stage("step-varlen", 45, [*step, "--kernels.attention=varlen"], beside, on_cpu=True),
        Stage("step-2048", 60, [*step, *many], beside, on_cpu=True),
        Stage("step-enpar", 45, enpar, _table, on_cpu=True),
        Stage("step-erica", 45, erica, _table, on_cpu=True),
        Stage("step-compiled", 150, compiled, beside, on_cpu=True, fault=partial(_compiled_late, scratch)),
        Stage("step-graphs", 150, graphs, beside, fault=partial(_compiled_late, scratch)),
    ]
    if shutil.which("compute-sanitizer"):  # each tensor an allocation of its own, or it sees torch's large blocks alone
        for tool in TOOLS:
            command = ["env", "PYTORCH_NO_CUDA_MEMORY_CACHING=1", "compute-sanitizer", "--tool", tool]
            made.append(Stage(tool, 40, [*command, "--error-exitcode", "1", *pytest, SANITIZED]))
    return made


def _lanes(count: int) -> list[str]:
    """So many lanes, all in one forward."""
    return [f"--batch.lanes={count}", f"--batch.lanes-per-forward={count}"]


def _whole_run(pack: Path, scratch: Path, out: Path, *, gpu: bool) -> list[Stage]:
    """A pre-training that is stopped and resumed, exported, fine-tuned, and predicts."""
    run = scratch / "runs" / "whole"
    steps, log_every = (1200, 20) if gpu else (24, 2)
    settings = [
        f"--run.folder={run.parent}", f"--run.name={run.name}", f"--data.shards={pack / 'shards'}",
        "--encoder.name-or-path=None", f"--train.steps={steps}", f"--optimizer.warmup-steps={steps // 10}",
        f"--train.log-every={log_every}", f"--train.checkpoint-every={steps // 3}", "--train.zero-stage=1",
        *([] if gpu else [*SMALL, *_lanes(2), "--data.workers=1"]),
    ]  # fmt: skip
    rank = [PYTHON, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    pretrain = [*rank, str(ROOT / "launcher" / "pretrain.py"), "--config", "spe_wiki_1gpu", *settings]
    asked = []

    def stop_half_way() -> None:
        if not asked and len(_metrics(run)) * log_every >= steps // 2:
            asked.append((run / "STOP").touch())

    def progress(text: str) -> list[str]:
        if (run / "metrics.jsonl").exists():
            shutil.copy(run / "metrics.jsonl", out / "metrics.jsonl")
        ends = [line for line in text.splitlines() if line.startswith(("stopped after", "finished step"))]
        lines = [{name: m[name] for name in SHOWN if isinstance(m.get(name), int | float)} for m in _metrics(run)[-2:]]
        return [*ends, *("  ".join(f"{name} {value:.4g}" for name, value in line.items()) for line in lines)]

    tune = [*SPE, "finetune", "--config", "finetune_cpu", "--from", str(run), f"--run.folder={run.parent}"]
    annotated = {name: str(pack / "annotated" / f"{name}.jsonl") for name in ("train", "dev", "test")}
    tune += ["--name=tuned", "--train.epochs=6", "--sampling.gold-epochs=2"]
    tune += [part for name, file in annotated.items() for part in (f"--{name}", file)]
    model = run.parent / "tuned" / "seed-1" / "model"
    predict = [*SPE, "predict", str(model), annotated["test"], f"--out={scratch / 'found.jsonl'}"]
    predict += ["--device", "cuda:0" if gpu else "cpu"]
    return [
        Stage("pretrain", 110 if gpu else 300, pretrain, progress, on_cpu=True, meanwhile=stop_half_way),
        Stage("resume", 110 if gpu else 300, pretrain, progress, on_cpu=True),
        Stage("export", 30, [*SPE, "export", str(run)], on_cpu=True),
        Stage("fine-tune", 60 if gpu else 300, tune, _scores, on_cpu=True),
        Stage("predict", 30 if gpu else 60, predict, on_cpu=True),
    ]


def _metrics(run: Path) -> list[dict]:
    file = run / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def _bench(
    scratch: Path,
    case: str,
    repeats: int,
    recipe: str | None = None,
    *settings: str,
    program: Sequence[str] = SPE,
) -> list[str]:
    """A case of `spe bench` with a new encoder of the recipe's sizes."""
    command = [*program, "bench", case, "--out", str(scratch / "bench"), "--repeats", str(repeats)]
    return command if recipe is None else [*command, "--", "--config", recipe, "--encoder.name-or-path=None", *settings]


def _table(text: str) -> list[str]:
    lines = text.splitlines()
    return [line for line in lines if line.startswith(("|", "error", "auto takes")) or " is faster than " in line]


def _notes_of_the_step(scratch: Path) -> dict:
    """What `spe bench step` has just noted of it."""
    return json.loads((scratch / "bench" / "bench_step.json").read_text())["rows"][0]["notes"]


def _beside_the_first_step(scratch: Path, out: Path, text: str) -> list[str]:
    """The table of a step of other settings, and its speed and memory beside those of 256 records a step."""
    kept = (out / "bench.jsonl").read_text().splitlines() if (out / "bench.jsonl").exists() else []
    first = next(
        (stage["rows"][0]["notes"] for stage in map(json.loads, reversed(kept)) if stage["stage"] == "step-256"), {}
    )
    mine = _notes_of_the_step(scratch)
    both = [name for name in BESIDE if all(isinstance(notes.get(name), int | float) for notes in (mine, first))]
    return [*(f"{name}: {mine[name]:.4g}, in step-256 {first[name]:.4g}" for name in both), *_table(text)]


def _compiled_late(scratch: Path) -> str:
    """Batches differ in all their sizes, and layers are compiled once for all of them."""
    late = _notes_of_the_step(scratch)["graphs after warm-up"]
    return f"{late} graphs compiled after the warm-up" if late else ""


def _scores(text: str) -> list[str]:
    return [line for line in text.splitlines() if "F1" in line or "f1" in line][-4:] or text.splitlines()[-2:]


def _of_tests(text: str) -> list[str]:
    lines = text.splitlines()
    return [line for line in lines if line.startswith("FAILED") or "after the restart" in line] + lines[-1:]


def _is_there(package: str) -> bool:
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False


def _keep_benchmarks(scratch: Path, out: Path, name: str) -> None:
    """Move what `spe bench` has written to one file of all stages."""
    for file in (scratch / "bench").glob("*.json"):
        with (out / "bench.jsonl").open("a") as kept:
            kept.write(json.dumps({"stage": name} | json.loads(file.read_text())) + "\n")
        file.unlink()


def find_pack(given: Path | None) -> Path:
    """The folder with wheels and data: as given, beside the sources, or where `make gpu-pack` writes it."""
    for folder in filter(None, (given, ROOT.parent, ROOT / "build" / "gpu")):
        if (folder / "wheels").is_dir() and (folder / "shards").is_dir():
            return folder.resolve()
    sys.exit(f"error: {given or 'there'} is no folder with wheels and shards: make gpu-pack writes one (--pack FOLDER)")


def main() -> int:
    """Run all stages; 1 if one has failed."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", type=Path, help="folder of make gpu-pack; default: beside the sources, or build/gpu")
    results = os.environ.get("GPU_OUT") or os.environ.get("OUT") or ROOT / "build" / "gpu_results"
    parser.add_argument("--out", type=Path, default=Path(results), help="folder of results")
    parser.add_argument("--only", nargs="+", default=[], help="stages to run; default: all")
    parser.add_argument("--seconds", type=float, default=570, help="for all of it")
    parser.add_argument("--slower", type=float, default=1, help="stages may take that many times their limits")
    given = parser.parse_args()
    pack = find_pack(given.pack)
    with tempfile.TemporaryDirectory() as folder:
        return _run_all(pack, given.out.absolute(), Path(folder), given)


def _run_all(pack: Path, out: Path, scratch: Path, given: argparse.Namespace) -> int:
    path = os.pathsep.join(filter(None, (str(scratch / "site"), str(ROOT), os.environ.get("PYTHONPATH"))))
    programs = os.pathsep.join((str(Path(PYTHON).parent), os.environ["PATH"], "/usr/local/cuda/bin"))
    session = Session(
        out,
        os.environ | {"PYTHONPATH": path, "PATH": programs, "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1"},
        given.seconds,
        given.slower,
    )
    os.environ["PATH"] = programs  # for shutil.which
    wheels = wheels_to_install(pack / "wheels")
    if wheels:
        pip = [PYTHON, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir"]
        session.run(Stage("wheels", 60, [*pip, "--target", str(scratch / "site"), *wheels], lambda _: []))
    said = session.run(Stage("versions", 60, [PYTHON, "-c", VERSIONS], lambda text: text.splitlines()[-2:]))
    gpu = "device" in said and "device none" not in said
    if not gpu:
        session.environment |= {"SPE_DIST_GPU_TESTS": "cpu"}
    if given.slower > 1:
        session.environment |= {"SPE_DIST_RANKS_TIMEOUT": str(300 * given.slower), "PYTEST_TIMEOUT": "3600"}
    left = []
    for stage in stages(pack, scratch, out, gpu=gpu):
        if given.only and stage.name not in given.only:
            continue
        if gpu or stage.on_cpu:
            session.run(stage)
            _keep_benchmarks(scratch, out, stage.name)
        else:
            left.append(stage.name)
    return _end(session, left, gpu=gpu)


def _end(session: Session, left: Sequence[str], *, gpu: bool) -> int:
    minutes = (time.monotonic() - session.began) / 60
    if session.failed:
        session.say(f"failed: {', '.join(session.failed)} ({minutes:.1f} minutes; see {session.out / 'log.txt'})")
        session.say(f"these alone: --only {' '.join(session.failed)}")
        return 1
    passed = f"{len(session.passed)} stages passed in {minutes:.1f} minutes"
    if gpu:
        session.say(f"all {passed}; results: {session.out}")
    else:
        wanting = ", ".join([*left, "all others at full size"])
        session.say(f"no GPU here: {passed} on the CPU; these need one: {wanting}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
