"""What a GPU could compute at best, as its maker publishes it: the denominator of model FLOPs utilisation (MFU)."""

from __future__ import annotations

import torch

# FLOP/s of dense bf16 matrix products, fp32 sums, without sparsity; T4 has no bf16, its figure is fp16's.
# The first name that a device's name holds counts, so variants come before their plain names.
_PEAKS = {
    "GB200": 2.5e15,
    "B200": 2.25e15,
    "GH200": 989e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "T4": 65e12,
}


def peak_flops(device_name: str) -> float | None:
    """FLOP/s of a GPU by its name (case does not matter), None if it is not in the table."""
    words = device_name.upper().replace("-", " ").split()
    for name, peak in _PEAKS.items():
        wanted = name.upper().split()
        if all(word in words for word in wanted):
            return peak
    return None


def peak_of_device(device: torch.device) -> float | None:
    """FLOP/s of the device; None for a CPU, whose makers publish no such figure, and for an unknown GPU."""
    return peak_flops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
