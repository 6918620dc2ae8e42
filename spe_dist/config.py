"""The sections of a run's configuration that every method shares.

Values come from a recipe (YAML) and dotted overrides; unknown keys are refused. What a paper fixes has no default here:
recipes say it. The resolved configuration is printed and saved beside the checkpoints.
"""

from __future__ import annotations

import hashlib
from dataclasses import field
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from data_shards.shards.location import is_remote, join_url, user_cache

STRICT = ConfigDict(extra="forbid")


def _require_folder_name(name: str) -> str:
    if name in ("", ".", ".."):
        raise ValueError("must be the name of a folder")
    return name


FolderName = Annotated[str, AfterValidator(_require_folder_name)]
Folder = Annotated[str, Field(min_length=1)]
Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]
Part = Annotated[float, Field(gt=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
SpanPoolBody = Literal["auto", "cpp", "cuda", "reference"]
Tracker = Literal["wandb", "trackio", "mlflow"]
AttentionKernel = Literal["auto", "short", "varlen"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RunConfig:
    """Name, folder and seed of the run."""

    name: FolderName
    """Name of the run and of its folder in `folder`. Starting a run with the same name resumes it."""
    folder: Folder
    """Folder of runs. On a cluster, a folder that all nodes share, or a URL (s3, gs, abfs, hdfs)."""
    seed: Count
    """Random seed for data order, all sampling (spans, masks, permutations, subsets) and weight initialisation."""
    track: Tracker | None = None
    """Experiment tracker that receives what TensorBoard shows; its library must be installed. Short: `--track`.
    Null: no tracker."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DataConfig:
    """Training data."""

    shards: str
    """Folder or URL of a dataset made by `spe shards build`."""
    cache: str | None = None
    """Cache folder for shards at a URL. Null: the user's cache folder."""
    fraction: Part = 1.0
    """Share of the records to train on, selected by the seed; a smaller share is a subset of a larger one."""
    held_out: Count = 0
    """Number of records that are never trained on, the same for every seed; their losses are measured every
    `train.evaluate_every` steps. 0 holds none out; otherwise at least a global batch."""
    shuffle_window: Positive = 4096
    """Number of records of a lane that are shuffled together."""
    workers: Count = 1
    """Loader processes per rank; 0 loads in the training process."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BatchConfig:
    """Global batch: `lanes * lane_size` records per step at any number of ranks."""

    lanes: Positive
    """Number of parts (lanes) of a global batch, and so the largest number of ranks."""
    lane_size: Positive
    """Records per lane."""
    lanes_per_forward: Positive
    """Lanes that a rank computes in one forward pass, at most. Changes memory and speed, not results."""
    pieces_per_forward: Positive | None = None
    """Pieces, [CLS] and [SEP] included, that a rank computes in one forward pass, at most. Passes are cut between
    lanes; a lane with more pieces has a pass of its own. Null: only `lanes_per_forward` limits a pass."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EncoderConfig:
    """Sentence encoder: an existing one, or a new one of the given sizes."""

    name_or_path: str | None
    """Hugging Face name or folder of the encoder; null creates a new BERT of the sizes below."""
    layers: Positive = 12
    """Transformer layers of a new encoder."""
    hidden_size: Positive = 768
    """Hidden size of a new encoder."""
    heads: Positive = 12
    """Attention heads of a new encoder."""
    intermediate_size: Positive = 3072
    """Feed-forward size of a new encoder."""
    max_positions: Positive = 512
    """Longest sequence of a new encoder, in pieces."""
    dropout: Share = 0.1
    """Dropout of embeddings and layers."""
    attention_dropout: Share = 0.0
    """Dropout of attention weights. Must be 0 on CUDA, where packed attention does not support it."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OptimizerConfig:
    """AdamW with linear warm-up and linear decay to 0."""

    learning_rate: Weight
    """Peak learning rate, reached at the end of the warm-up."""
    warmup_steps: Count
    """Steps of linear warm-up."""
    betas: tuple[Share, Share]
    """Decay rates of Adam's first and second moments."""
    eps: Annotated[float, Field(gt=0)]
    """Adam's epsilon."""
    weight_decay: Weight
    """Weight decay, not applied to biases and norms."""
    clip: Annotated[float, Field(gt=0)]
    """Maximum gradient norm."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainConfig:
    """Length, precision, logging and checkpoints."""

    steps: Positive
    """Number of optimizer steps."""
    zero_stage: Literal[1, 2, 3]
    """DeepSpeed ZeRO stage: 1 shards optimizer state, 2 also gradients, 3 also weights."""
    precision: Literal["bf16", "fp32"]
    """Precision of forward and backward passes: bf16 (with fp32 master weights) or fp32."""
    log_every: Positive = 10
    """Steps between two lines of metrics; each is the mean over these steps."""
    evaluate_every: Positive = 1000
    """Steps between measurements of the losses on `data.held_out`, which the next line of metrics shows; the last step
    is measured too."""
    gradients_every: Count = 0
    """Steps between measurements of each objective's gradient on the encoder's layers (its norm and its share), which
    the next line of metrics shows; 0 measures none. A measurement does not change the run. It takes about as long as
    two or three steps, and memory for the layers' gradient of each objective in fp32."""
    checkpoint_every: Positive = 1000
    """Steps between checkpoints."""
    keep_last: Positive = 3
    """Number of newest checkpoints to keep."""
    keep_every: Count = 0
    """Also keep every checkpoint whose step is a multiple of this number; 0 keeps none of these."""
    failed_saves: Positive = 3
    """Consecutive failed saves after which the run ends. With 1, training waits for each save."""
    profile_steps: Count = 0
    """Number of steps to trace, from the seventh step on, into the folder `profile` of the run; 0 traces none.
    `--profile` is short for 5."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ComputeConfig:
    """How a forward pass is computed. Results change by rounding only, and by the random numbers that dropout draws."""

    packed: bool = True
    """Compute without padding. False pads all sequences to the longest one of a forward pass, for comparison."""
    compile: bool = False
    """Compile the sentence encoder with torch.compile; for ZeRO stages 1 and 2."""
    graph_pieces: Annotated[int, Field(ge=0, multiple_of=64)] = 0
    """Launch the encoder as CUDA graphs; needs `compile`, ZeRO stage 1 and a GPU. One graph is recorded for each number
    of pieces that a forward pass has. Padding rounds this number up to a multiple of the setting, so that there are few
    graphs. The setting must be a multiple of 64; try 1024. 0: no graphs."""
    checkpoint_activations: bool = False
    """Keep one state per layer and recompute the rest in the backward pass: less memory, more time."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class KernelsConfig:
    """Backends of our own operators."""

    span_pool: SpanPoolBody = "auto"
    """Backend of span_pool. auto: the compiled one for the device if available, otherwise the PyTorch reference."""
    attention: AttentionKernel = "auto"
    """Attention of packed sequences on GPUs: short (ours, for sentences) or varlen (torch's). auto: short if sequences
    have at most 64 pieces on average and at most 512 each (`spe bench attention` measures both). No effect on CPUs."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ClusterConfig:
    """Ranks launched by Ray. Under torchrun, torchrun's arguments set their number."""

    workers: Positive
    """Number of ranks; the maximum if `min_workers` is set."""
    min_workers: Positive | None = None
    """Minimum number of ranks to continue with while machines are missing. Null waits until all `workers` fit."""
    max_failures: Count = 3
    """Number of consecutive failures that a run survives; a new checkpoint resets the count."""
    hang_seconds: Annotated[float, Field(gt=0)] = 600.0
    """A rank that finishes no step for this long exits, and all ranks restart; also under torchrun."""
    resize_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Seconds between checks for machines that could take more ranks."""
    cpus_per_worker: Positive = 1
    """CPU cores that Ray reserves for a rank, and threads that the rank uses."""
    gpus_per_worker: Literal[0, 1] = 0
    """GPUs that Ray reserves for a rank: 0 or 1."""
    address: str | None = None
    """Ray cluster to join ("auto": the one on this machine). Null joins $RAY_ADDRESS or starts Ray here."""
    allow_unauthenticated: bool = False
    """Join or start a Ray that requires no token. Anyone who can reach its ports can then run code on its nodes."""


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
