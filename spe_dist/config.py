"""The sections of a run's configuration that every method shares.

Values come from a recipe (YAML) and dotted overrides; unknown keys are refused. What a paper fixes has no default here:
recipes say it. The resolved configuration is printed and saved beside the checkpoints.
"""

from __future__ import annotations

import hashlib
from dataclasses import field
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from data_shards.shards.location import is_remote, join_url, user_cache

STRICT = ConfigDict(extra="forbid")

Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Part = Annotated[float, Field(gt=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
SpanPoolBody = Literal["auto", "cpp", "cuda", "reference"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RunConfig:
    """Where a run lives."""

    name: str
    """The run's folder inside `folder`; starting the same name again resumes it."""
    folder: str
    """Folder of runs; on a cluster, one that all nodes share, or a URL (s3, gs, abfs, hdfs) that all can reach."""
    seed: Count
    """Of the order of records, spans, masks, permutations and new weights."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DataConfig:
    """What a run reads."""

    shards: str
    """Folder or URL of a dataset made by `spe shards build`."""
    cache: str | None = None
    """Where shards of a URL are kept (default: the user's cache folder)."""
    fraction: Part = 1.0
    """Part of the records to train on; the seed says which, a smaller part lies in a larger one (ENPAR's Table 3)."""
    shuffle_window: Positive = 4096
    """Records of a lane that are shuffled among themselves."""
    workers: Count = 1
    """Loader processes per rank; 0 loads in the training process."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BatchConfig:
    """The global batch: `lanes * lane_size` records per step, whatever the number of ranks."""

    lanes: Positive
    """Parts of a global batch; the largest number of ranks that can share it."""
    lane_size: Positive
    """Records per lane."""
    lanes_per_forward: Positive
    """Lanes that a rank computes in one forward; changes memory and speed, not results."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EncoderConfig:
    """The sentence encoder: one that exists, or a new one of the given sizes."""

    name_or_path: str | None
    """Hugging Face name or folder; null makes a new BERT of the sizes below."""
    layers: Positive = 12
    hidden_size: Positive = 768
    heads: Positive = 12
    intermediate_size: Positive = 3072
    max_positions: Positive = 512
    dropout: Share = 0.1
    """Of embeddings and layers."""
    attention_dropout: Share = 0.0
    """Of attention weights; must be 0 on CUDA, whose packed attention has none."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OptimizerConfig:
    """AdamW with linear warm-up and linear decay to 0."""

    learning_rate: Weight
    """At the end of the warm-up."""
    warmup_steps: Count
    betas: tuple[Share, Share]
    eps: Annotated[float, Field(gt=0)]
    weight_decay: Weight
    """Not applied to biases and norms."""
    clip: Annotated[float, Field(gt=0)]
    """Largest norm of the gradient."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainConfig:
    """How long, and how it is computed and watched."""

    steps: Positive
    zero_stage: Literal[1, 2, 3]
    precision: Literal["bf16", "fp32"]
    log_every: Positive = 10
    """Steps between two lines of metrics, each the mean over them."""
    checkpoint_every: Positive = 1000
    keep_last: Positive = 3
    """Newest checkpoints kept."""
    keep_every: Count = 0
    """Steps between checkpoints kept for good; 0 keeps none."""
    failed_saves: Positive = 3
    """Periodic saves that fail in a row before the run ends; 1 ends it at the first, so that each is waited for."""
    profile_steps: Count = 0
    """Steps traced in the run's folder `profile`, from the seventh on; 0 traces none, `--profile` 5."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ComputeConfig:
    """How a forward is computed; none of this changes results beyond rounding."""

    packed: bool = True
    """No padding; false pads sequences to the longest of a forward, as the papers' programs do (to compare with)."""
    compile: bool = False
    """Compile the sentence encoder with torch.compile; for ZeRO 1 and 2."""
    checkpoint_activations: bool = False
    """Keep one state per layer and compute the rest again in the backward pass: less memory, more time."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class KernelsConfig:
    """Which bodies of our own operators run."""

    span_pool: SpanPoolBody = "auto"
    """auto: the compiled one of the device if it can be had, else the reference."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ClusterConfig:
    """Ranks, when Ray launches them (under torchrun, its own arguments say)."""

    workers: Positive
    """Ranks; the most, if `min_workers` is set."""
    min_workers: Positive | None = None
    """Fewest ranks to go on with while machines are missing; null waits until there is room for all `workers`."""
    max_failures: Count = 3
    """Failures in a row, without a new checkpoint between them, that a run survives."""
    hang_seconds: Annotated[float, Field(gt=0)] = 600.0
    """A rank without a finished step for so long ends, and all ranks start again; under torchrun too."""
    resize_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Time between two looks for machines that could take more ranks."""
    cpus_per_worker: Positive = 1
    """CPU cores Ray reserves for a rank, and threads the rank computes with."""
    gpus_per_worker: Literal[0, 1] = 0
    address: str | None = None
    """A Ray cluster to join ("auto": the one on this machine); null joins $RAY_ADDRESS or starts Ray here."""
    allow_unauthenticated: bool = False
    """Join or start a Ray that asks for no token: whoever reaches its ports can run anything there."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """What every method shares; a method adds its own sections (see `spe_dist/methods`)."""

    method: str
    run: RunConfig
    data: DataConfig
    batch: BatchConfig
    encoder: EncoderConfig
    optimizer: OptimizerConfig
    train: TrainConfig
    cluster: ClusterConfig
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    kernels: KernelsConfig = field(default_factory=KernelsConfig)

    @property
    def run_folder(self) -> str:
        """Folder of this run on this machine; if `run.folder` is a URL, one in the user's cache folder."""
        if not is_remote(self.run.folder):
            return f"{self.run.folder.rstrip('/')}/{self.run.name}"
        return str(user_cache() / "runs" / hashlib.sha256(self.run.folder.encode()).hexdigest()[:16] / self.run.name)

    @property
    def run_url(self) -> str | None:
        """Where the run is kept if `run.folder` is a URL, else None."""
        return join_url(self.run.folder, self.run.name) if is_remote(self.run.folder) else None
