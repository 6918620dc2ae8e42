"""Where these tests compute: on the first GPU, or on the CPU where SPE_DIST_GPU_TESTS=cpu asks for that.

On the CPU everything but the device is tested: that the tests themselves are right, and that bf16 keeps their bounds.
"""

import os
from importlib.util import find_spec

import pytest
import torch

from data_shards.text.word_rules import WordRules

DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
ON_GPU = DEVICE.type == "cuda"

if find_spec("spacy") is None:  # as on a bare machine: names of ERICA's relations and tests' own text are cut at blanks
    WordRules.words_of_chunk = lambda self, chunk: [chunk]

# For `pytestmark` of each file.
on_device = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not ON_GPU and os.environ.get("SPE_DIST_GPU_TESTS") != "cpu",
        reason="needs a GPU (SPE_DIST_GPU_TESTS=cpu runs it on the CPU, to test the test)",
    ),
]
only_on_a_gpu = pytest.mark.skipif(not ON_GPU, reason="asks what a GPU does")
