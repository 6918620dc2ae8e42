"""`make gpu-pack`: everything that `make gpu` needs on a machine without a network, in one folder.

    source/     this checkout's files
    wheels/     packages that a machine with torch, transformers, triton and pytest seldom has, as .ci/locks pins them
    shards/, entity_shards/, document_shards/    of the embedded corpus, or SHARDS in place of the first
    annotated/  sentences with entities and relations to fine-tune on

There: `python3 source/tests/gpu/session.py`, or `make -C source gpu`.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("Makefile", "pyproject.toml", "data_shards", "spe_dist", "cluster", "launcher", "tests")
PURE = ("deepspeed",)  # published as source alone
WHEELS = (
    *("hjson", "pydantic", "pydantic-core", "annotated-types", "typing-inspection", "typing-extensions", "tyro"),
    *("docstring-parser", "typeguard", "webdataset", "braceexpand"),
    *("einops", "msgpack", "psutil", "py-cpuinfo"),  # which DeepSpeed needs
    *("tensorboard", "protobuf", "absl-py"),  # with which curves are written
    *("hypothesis", "sortedcontainers", "pytest-timeout"),  # for tests/conftest.py and pytest's settings
)
GLIBC = (17, 27, 28, 34)  # 2.N that wheels ask for
SENTENCES, DOCUMENTS, ANNOTATED = 30_000, 2_000, 200


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu", help="folder to write; an older one goes")
    parser.add_argument("--shards", type=Path, help="dataset of sentences to take in place of the embedded corpus")
    parser.add_argument("--python", default="3.12", help="Python of the other machine")
    parser.add_argument("--machine", default=platform.machine(), help="its processor: x86_64 or aarch64")
    given = parser.parse_args()
    if (given.out / "source" / "Makefile").is_file():
        shutil.rmtree(given.out)
    given.out.mkdir(parents=True, exist_ok=True)
    if any(given.out.iterdir()):
        parser.error(f"{given.out} holds something else: give --out a folder of its own")
    copy_sources(given.out / "source")
    write_data(given.out, given.shards)
    fetch_wheels(given.out / "wheels", given.python, given.machine)
    size = sum(path.stat().st_size for path in given.out.rglob("*") if path.is_file())
    print(f"{given.out}: {size / 2**20:.1f} MiB. There: python3 source/tests/gpu/session.py")


def copy_sources(out: Path) -> None:
    """What git does not ignore, as it is here."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *SOURCES]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, out / name)


def write_data(out: Path, shards: Path | None) -> None:
    """Datasets and annotated sentences."""
    from data_shards.sample.corpus import generate_annotated, write_annotated
    from tests.unit.spe_dist.random_documents import write_documents
    from tests.unit.spe_dist.tiny_run import write_dataset

    if shards is None:
        write_dataset(out / "shards", SENTENCES, shards=4)
    else:
        shutil.copytree(shards, out / "shards")
    write_dataset(out / "entity_shards", SENTENCES // 10, shards=2, entities=True)
    write_documents(out / "document_shards", DOCUMENTS)
    (out / "annotated").mkdir()
    parts = generate_annotated([ANNOTATED, ANNOTATED // 2, ANNOTATED], sentences=SENTENCES, seed=0)
    for name, part in zip(("train", "dev", "test"), parts, strict=True):
        write_annotated(out / "annotated" / f"{name}.jsonl", part)


def fetch_wheels(out: Path, python: str, machine: str) -> None:
    """Wheels for the other machine's Python, with the hashes of the lock file."""
    lock = (ROOT / ".ci" / "locks" / "dev.txt").read_text()
    entries = {
        re.match(r"[a-z0-9-]+", entry).group(): entry for entry in re.split(r"^(?=[a-z0-9])", lock, flags=re.M)[1:]
    }
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in GLIBC]
    chosen = ["--only-binary=:all:", "--python-version", python, *platforms, "--dest", str(out)]
    for names, command in (
        (WHEELS, ["download", *chosen]),
        (PURE, ["wheel", "--no-build-isolation", "--wheel-dir", str(out)]),
    ):
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
            wanted.write("".join(entries[name] for name in names))
            wanted.flush()
            command = [*pip, *command, "--no-deps", "--require-hashes", "--requirement", wanted.name]
            subprocess.run(command, check=True, env=os.environ | {"DS_BUILD_OPS": "0"})


if __name__ == "__main__":
    sys.path[0] = str(ROOT)
    main()
