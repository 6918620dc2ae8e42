"""One Ray and one small dataset for all tests of shards."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import data_shards
from data_shards.pipeline.build import build
from data_shards.pipeline.build_config import BuildConfig
from data_shards.sample.corpus import generate

DEBUG_VOCAB = str(Path(data_shards.__file__).with_name("debug_vocab.txt"))


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


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
def dataset(config: BuildConfig, ray_session: None) -> Path:
    build(config)
    return config.out
