import pytest
import torch

from spe_dist.engine.peak_flops import peak_flops, peak_of_device


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200", 989e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA GB200", 2.5e15),
        ("Tesla T4", 65e12),
        ("NVIDIA L40S", 362e12),
        ("h200", 989e12),
    ],
)
def test_a_gpu_is_known_by_its_name(name, peak):
    assert peak_flops(name) == peak


def test_no_peak_is_invented():
    assert peak_flops("NVIDIA GeForce GTX 1080") is None
    assert peak_of_device(torch.device("cpu")) is None
