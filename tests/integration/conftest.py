import pytest

from tests.unit.spe_dist.tiny_run import write_dataset


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """A folder that holds a tiny dataset in `shards`."""
    folder = tmp_path_factory.mktemp("tiny")
    write_dataset(folder / "shards")
    return folder
