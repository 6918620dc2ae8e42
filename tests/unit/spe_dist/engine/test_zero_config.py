import pytest

from data_shards.errors import UserError
from spe_dist.engine.zero_config import deepspeed_config

SETTINGS = {"precision": "bf16", "accumulation": 3, "world_size": 4, "clip": 1.0, "elements": 700}


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_batch_sizes_agree_as_deepspeed_demands(stage):
    config = deepspeed_config(stage=stage, **SETTINGS)
    micro, accumulation = config["train_micro_batch_size_per_gpu"], config["gradient_accumulation_steps"]
    assert config["train_batch_size"] == micro * accumulation * 4
    assert config["zero_optimization"]["stage"] == stage


def test_gradients_are_added_in_fp32_within_a_rank_and_between_ranks():
    config = deepspeed_config(stage=2, **SETTINGS)
    assert config["data_types"] == {"grad_accum_dtype": "fp32"}
    assert config["communication_data_type"] == "fp32"


def test_the_buffer_for_reducing_is_no_larger_than_the_model():
    sizes = [
        deepspeed_config(stage=2, **SETTINGS | {"elements": elements})["zero_optimization"]["reduce_bucket_size"]
        for elements in (700, 3_000_000_000)
    ]
    assert sizes == [700, 500_000_000]


@pytest.mark.parametrize("stage", [0, 4])
def test_other_stages_are_refused_by_name(stage):
    with pytest.raises(UserError, match=rf"ZeRO stage {stage} \(train.zero_stage\)"):
        deepspeed_config(stage=stage, **SETTINGS)


def test_other_precisions_are_refused_by_name():
    with pytest.raises(UserError, match="'fp16'"):
        deepspeed_config(stage=1, **{**SETTINGS, "precision": "fp16"})
