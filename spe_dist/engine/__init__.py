"""From a model to optimizer steps over all ranks: plan, schedule, parameter groups and DeepSpeed."""

import os

import torch

# Said here, before anything imports DeepSpeed, which otherwise guesses and warns about it on the terminal.
os.environ.setdefault("DS_ACCELERATOR", "cuda" if torch.cuda.is_available() else "cpu")
