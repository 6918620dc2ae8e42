"""One small dataset for all tests of shards, built in this process; tests/integration/test_build.py builds by Ray."""

import json
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

import data_shards
from data_shards.pipeline import build
from data_shards.pipeline.build_config import BuildConfig
from data_shards.pipeline.unit_builder import UnitPlan
from data_shards.sample.corpus import generate
from data_shards.shards.manifest import Manifest
from tests.unit.data_shards.derive_here import derived_here

DEBUG_VOCAB = str(Path(data_shards.__file__).with_name("debug_vocab.txt"))


class _Rows:
    """The rows of a build's two stages, one after the other."""

    def __init__(self, plan: UnitPlan, config: BuildConfig, workers: int | None, *, backwards: bool) -> None:
        self._plan, self._config, self._order = plan, config, -1 if backwards else 1

    def iter_rows(self) -> Iterator[dict[str, Any]]:
        for index in range(len(self._plan.sources))[:: self._order]:
            rows = [*build._read_rows(self._plan, self._config.unit_documents, {"input": index})]
            for row in rows[:: self._order]:
                yield build._build_row(self._plan, row)


def build_here(config: BuildConfig, *, backwards: bool = False) -> Manifest:
    """Build without Ray, whose start takes longer than a small build; on request the last unit first."""
    with (
        patch.object(build, "_pipeline", partial(_Rows, backwards=backwards)),
        patch.object(build, "running_ray", lambda workers: nullcontext(1)),
        derived_here(backwards=backwards),
    ):
        return build.build(config)


@pytest.fixture(scope="session")
def documents() -> list[str]:
    """240 documents of three sentences, the last one a paragraph of its own."""
    sentences = [" ".join(sentence.words) for sentence in generate(720, seed=5)]
    return [f"{a} {b}\n{c}" for a, b, c in zip(*(sentences[i::3] for i in range(3)), strict=True)]


@pytest.fixture(scope="session")
def corpus(documents: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents))
    return path


@pytest.fixture(scope="session")
def config(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildConfig:
    """Eight units of three blocks each."""
    out = tmp_path_factory.mktemp("built") / "shards"
    return BuildConfig((str(corpus),), out, DEBUG_VOCAB, unit_documents=30, block_records=40)


@pytest.fixture(scope="session")
def dataset(config: BuildConfig) -> Path:
    build_here(config)
    return config.out
