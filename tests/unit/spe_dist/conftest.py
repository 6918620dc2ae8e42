"""What several packages share."""

import pytest


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory):
    """Configuration and result of a fine-tuning that is over; tests that change its folder put it back."""
    from spe_dist.finetuning.loop import finetune  # with DeepSpeed, which most tests need not
    from tests.distributed.ranks import run_ranks
    from tests.unit.spe_dist.extraction.tiny_finetuning import config_in

    config = config_in(tmp_path_factory.mktemp("learned"))
    return config, run_ranks(finetune, 1, config)[0]
