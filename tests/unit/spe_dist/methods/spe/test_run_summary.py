"""Settings that can be trained, but hardly do what they say."""

import pytest

from spe_dist.methods.registry import spec_of
from spe_dist.recipe import load_recipe
from tests.paper.tiny_spe import RECIPES, tiny_config


def warnings_of(config):
    return spec_of(config).find_warnings(config)


BATCH = {"lanes": 8, "lane_size": 8, "lanes_per_forward": 4}


def warnings(**cspo):
    return [str(warning) for warning in warnings_of(tiny_config(batch=BATCH, cspo=cspo))]


def test_a_queue_longer_than_the_memory_of_the_key_encoder_is_named_with_the_length_to_set():
    (line,) = warnings(queue_size=16_384, momentum=0.99)
    assert "holds the keys of 256 steps" in line and "remembers only 100" in line
    assert line.startswith("warning: cspo.queue_size 16384 ") and line.endswith("set cspo.queue_size to 1600 or less")
    assert warnings(queue_size=1600, momentum=0.99) == []


def test_the_limit_is_the_memory_itself():
    assert warnings(queue_size=6_400, momentum=0.99) == []
    assert len(warnings(queue_size=6_401, momentum=0.99)) == 1
    assert len(warnings(queue_size=65, momentum=0.0)) == 1


def test_without_contrast_there_is_nothing_to_say():
    assert warnings(queue_size=16_384, momentum=0.99, weight=0.0) == []


@pytest.mark.parametrize(
    "recipe",
    [
        *("debug", "minilm_cpu", "minilm_1gpu", "spe_words_cpu", "spe_wiki", "spe_wiki_1gpu"),
        *("enpar_debug", "enpar_minilm_cpu", "enpar_wiki", "enpar_wiki_1gpu"),
    ],
)
def test_no_recipe_is_odd(recipe):
    assert warnings_of(load_recipe(RECIPES / f"{recipe}.yaml")) == []
