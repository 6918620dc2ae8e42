import functools
import sys

import pytest
from hypothesis import settings

from data_shards.text import word_rules
from spe_dist.engine.compiler import extension_folder
from tests.unit.spe_dist.tiny_run import write_dataset

# A busy machine makes no example wrong.
settings.register_profile("any speed", deadline=None)
settings.load_profile("any speed")

# spaCy reads the rules of a language in a tenth of a second, and hundreds of tests begin with tiny models and data.
word_rules._load_tokenizer = functools.cache(word_rules._load_tokenizer)


def pytest_addoption(parser):
    parser.addoption("--exact", action="store_true", help="the long version of tests/exactness (make test-exact)")
    parser.addoption("--exact-report", metavar="FOLDER", help="where tests/exactness writes exactness.json and .md")
    parser.addoption("--slow", action="store_true", help="also what takes minutes and is no part of make test")
    parser.addoption("--kills", type=int, default=24, help="processes to kill in saves (make faults: 300)")
    parser.addoption("--faults-report", metavar="FOLDER", help="where tests/faults write what they tried, as JSON")


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """A folder that holds a tiny dataset in `shards`."""
    folder = tmp_path_factory.mktemp("tiny")
    write_dataset(folder / "shards")
    return folder


@pytest.fixture(scope="module", autouse=True)
def ranks_end_with_the_file():
    """Each run leaves threads of gloo, which wake a hundred times a second: those of all files took half a core."""
    yield
    if ranks := sys.modules.get("tests.distributed.ranks"):
        ranks.end_worlds()


def pytest_configure():
    """Commands in homes of their own would each compile DeepSpeed's extension anew, a minute of a core."""
    extension_folder("any")  # sets TORCH_EXTENSIONS_DIR


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes: --slow (make test-slow)"))
