import pytest

from tests.unit.spe_dist.tiny_run import write_dataset


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """A dataset of one shard."""
    folder = tmp_path_factory.mktemp("exactness") / "shards"
    write_dataset(folder, sentences=130)  # a few epochs in 50 steps; small probes, which every logged step runs
    return folder
