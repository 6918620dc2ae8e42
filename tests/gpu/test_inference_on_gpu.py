"""Predicting on a device that is named."""

import pytest
import torch

from tests.gpu.device import DEVICE, ON_GPU, on_device
from tests.unit.spe_dist.extraction.lively import lively_model
from tests.unit.spe_dist.extraction.tiny import SENTENCES, word_pieces

pytestmark = on_device
# Of words, so that no rules for words are needed.
TEXTS = [list(sentence.words) * repeats for repeats in range(1, 5) for sentence in SENTENCES]


def predicted(device):
    from spe_dist.extraction.predict.extractor import Extractor

    return Extractor(lively_model(), word_pieces(), device=device, precision="bf16")(TEXTS)


def entities(texts):
    return {(row, one.start, one.end, one.type) for row, text in enumerate(texts) for one in text.entities}


def test_an_extractor_finds_on_a_named_device_what_it_finds_on_the_cpu():
    """Its weights are random, so that rounding decides some of it."""
    here, there = entities(predicted("cpu")), entities(predicted(str(DEVICE)))
    assert len(here) > 50
    assert len(here & there) > 0.9 * len(here | there)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_a_second_gpu_is_as_good_as_the_first():
    with torch.cuda.device(0):
        assert entities(predicted("cuda:1")) == entities(predicted("cuda:0"))


def test_without_a_name_it_is_the_gpu_if_there_is_one():
    from spe_dist.engine.machine import find_device

    assert find_device(None).type == ("cuda" if ON_GPU else "cpu")
