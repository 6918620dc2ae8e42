"""Where these tests compute: on the first GPU, or on the CPU where SPE_DIST_GPU_TESTS=cpu asks for that.

On the CPU everything but the device is tested: that the tests themselves are right, and that bf16 keeps their bounds.
"""

import os

import pytest
import torch

DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
ON_GPU = DEVICE.type == "cuda"

# For `pytestmark` of each file.
on_device = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not ON_GPU and os.environ.get("SPE_DIST_GPU_TESTS") != "cpu",
        reason="needs a GPU (SPE_DIST_GPU_TESTS=cpu runs it on the CPU, to test the test)",
    ),
]
only_on_a_gpu = pytest.mark.skipif(not ON_GPU, reason="asks what a GPU does")
