"""What a person is told for a mistake: a non-zero exit status and one line on standard error, nothing else there.

To import torch, DeepSpeed, transformers, Ray and spaCy takes ten seconds of a core: one process imports them, and forks
a child for each mistake.
"""

import json
import os
import re
import shutil
import sys
import traceback
from pathlib import Path

import pytest

from launcher.cli import main
from tests.forked import run_forked
from tests.integration.user_mistakes import MISTAKES
from tests.unit.spe_dist.document_relations.tiny import save_document_model
from tests.unit.spe_dist.extraction.lively import save_lively
from tests.unit.spe_dist.finetuning.untrained import DESCRIPTIONS, save_untrained
from tests.unit.spe_dist.tiny_run import ROOT, train_tiny_run, write_dataset

_OF_OTHERS = re.compile(r"Traceback|[╭│]|pydantic|tyro|<class|[A-Z]\w+(Error|Exception)\b|Errno|use_fast|Retry")

# What a build or a fine-tuning leaves that has begun: its tokenizer; settings, log and lock of the seed.
_OF_A_START = {
    *("tokenizer.json", "tokenizer_config.json", "config.yaml", "inputs.json", "versions.json", "finetune.log", "LOCK")
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """What mistakes are made with: a dataset, a trained run, an extractor, and damaged ones of each."""
    folder = tmp_path_factory.mktemp("world")
    write_dataset(folder / "shards")
    train_tiny_run(folder)
    (folder / "runs" / "tiny").rename(folder / "run")
    save_lively(folder / "model")
    save_document_model(folder / "document_relations" / "model")
    for task in DESCRIPTIONS:
        save_untrained(task, folder / task / "model")
    for name, damage in (("shards", "shards/*.tar"), ("run", "checkpoints/*/rank-*"), ("model", "*.safetensors")):
        copy = Path(shutil.copytree(folder / name, folder / f"damaged_{name}"))
        pattern = damage.split("/")[-1] if name == "shards" else damage
        for path in copy.glob(pattern):
            path.write_bytes(path.read_bytes()[:-9] + b"\0" * 8)
    shutil.copytree(folder / "run", folder / "new_run", ignore=shutil.ignore_patterns("step-*"))
    return folder


@pytest.fixture(scope="module")
def outcomes(world):
    """Exit status, standard output, standard error and new files of every mistake."""
    done = run_forked(_make_all, world, CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((world / "outcomes.json").read_text())


def _make_all(world: Path) -> None:
    import huggingface_hub.constants
    import pyarrow.parquet
    import ray
    import spacy

    from cluster import ray_train
    from launcher import bench, doctor, finetune, plan, predict, shards
    from spe_dist.extraction.predict import extractor

    assert all((pyarrow.parquet, ray, spacy, ray_train, bench, doctor, finetune, plan, predict, shards, extractor))
    huggingface_hub.constants.HF_HUB_OFFLINE = True  # as HF_HUB_OFFLINE=1 before the import
    outcomes = {}
    for number, mistake in enumerate(MISTAKES):
        here = world / f"here-{number}"
        here.mkdir()
        for name, content in mistake.files.items():
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            (here / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        arguments = [part.format(world=world, here=here, root=ROOT) for part in mistake.command.split()]
        child = os.fork()
        if not child:
            _make(arguments, here)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said = [(here / name).read_text() for name in (".out", ".err")]
        written = {str(path.relative_to(here)) for path in here.rglob("*") if path.is_file()} - {".out", ".err"}
        outcomes[mistake.command] = (status, *said, sorted(written - set(mistake.files)))
    (world / "outcomes.json").write_text(json.dumps(outcomes))


def _make(arguments: list[str], here: Path) -> None:
    os.chdir(here)
    for descriptor, name in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(here / name, os.O_WRONLY | os.O_CREAT), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.argv = ["spe", *arguments]
    status = 0
    try:
        main()
    except SystemExit as ending:
        status = ending.code if isinstance(ending.code, int) else 1
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.command[:60])
def test_a_mistake_is_told_in_one_line(outcomes, mistake):
    status, _, said, written = outcomes[mistake.command]
    assert status == 1, said
    assert [name for name in written if Path(name).name not in _OF_A_START] == []
    (line,) = said.splitlines()
    assert line.startswith("error: ")
    for part in mistake.told:
        assert part in line
    assert not _OF_OTHERS.search(line)


def test_there_are_many_mistakes_and_none_is_twice():
    assert len({mistake.command for mistake in MISTAKES}) == len(MISTAKES) >= 60
