"""One Ray for all tests that build shards with it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_shards.pipeline.build import build
from data_shards.pipeline.build_config import BuildConfig
from tests.unit.data_shards.conftest import config, corpus, documents  # noqa: F401


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # as in tests/forked.py
    ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def dataset(config: BuildConfig, ray_session: None) -> Path:  # noqa: F811
    build(config)
    return config.out
