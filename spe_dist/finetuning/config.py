"""The settings that every fine-tuning has; tasks add their own. What the papers fix has no default: recipes say it."""

from __future__ import annotations

from dataclasses import field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from data_shards.text.offset_units import OffsetUnit
from spe_dist.config import STRICT, Count, EncoderConfig, KernelsConfig, Part, Positive, RunConfig, Share, Weight

if TYPE_CHECKING:
    from spe_dist.finetuning.task import Scoring, Task

BERT = "bert"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FinetuneDataConfig:
    """Annotated data; extraction reads any format that `spe data check` does."""

    train: str
    dev: str
    """Decides which epoch is the best."""
    test: str | None = None
    """Only looked at when training is over."""
    fraction: Part = 1.0
    """Share of the training data to learn from; the seed says which, a smaller share is part of a larger one."""
    offsets: OffsetUnit = "characters"
    """What the offsets of entities in a text count: characters (Unicode code points), UTF-16 units as in JavaScript and
    Java, or bytes of UTF-8."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StartConfig:
    """What the weights begin as."""

    pretrained: str
    """A run of `spe pretrain`, its export, a fine-tuned model (RUN/seed-N/model), or "bert": the sentence encoder that
    `encoder.name_or_path` names, all else new."""
    no_cnn: bool = False
    """Take the sentence encoder alone; span and pair encoder and all else are new (the paper's ablation "-CNN")."""
    keep_heads: bool = True
    """Of a fine-tuned model, keep the classifiers too, if they are of the same task and the same labels."""
    tokenizer: str | None = None
    """Tokenizer of a new encoder, or of one whose folder has none."""
    language: str = "en"
    """Whose rules cut raw text into words, in annotated data and when predicting; a run's own is taken from the run."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FinetuneOptimizerConfig:
    """AdamW with linear warm-up and linear decay to 0."""

    learning_rate: Weight
    """At the end of the warm-up, of the sentence encoder's last layer."""
    warmup_share: Share
    """Of all updates."""
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    """Each layer of the sentence encoder learns at this share of the rate of the layer above."""
    embeddings: Literal["lowest_layer", "full"] = "lowest_layer"
    """Rate of the embeddings: of the lowest layer, or the full one, as in the papers' program."""
    heads: Weight = 1.0
    """Rate of everything above the sentence encoder, as a multiple of the learning rate."""
    betas: tuple[Share, Share]
    eps: Annotated[float, Field(gt=0)]
    weight_decay: Weight
    """Not applied to biases and norms."""
    clip: Annotated[float, Field(gt=0)]
    """Largest norm of the gradient."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FinetuneTrainConfig:
    """How long, and when it is looked at."""

    epochs: Positive
    batch_size: Positive
    """Sentences, or what else the task learns from, of an update."""
    first_evaluation: Count = 0
    """First epoch, counted from 0, after which dev is evaluated."""
    patience: Count
    """Epochs in a row without a new best on dev; after one more, training ends. Before the first right entity or
    relation it does not end: on few labels the first epochs may find nothing."""
    precision: Literal["bf16", "fp32"]
    checkpoint_every: Count = 1
    """Epochs between checkpoints that a killed run goes on from; 0 writes none."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SeedsOnRayConfig:
    """Where several seeds are trained at the same time; each is one rank of its own."""

    parallel: Positive | None = None
    """Seeds at the same time, at most; null: as many as there are cores, or GPUs."""
    gpus_per_seed: Literal[0, 1] | None = None
    """Null: one if there are any."""
    address: str | None = None
    """A Ray cluster to join ("auto": the one on this machine); null joins $RAY_ADDRESS or starts Ray here."""
    allow_unauthenticated: bool = False
    """Join or start a Ray that asks for no token: whoever reaches its ports can run anything there."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FinetuneConfig:
    """A fine-tuning; each task derives its own. Several seeds share the run's folder."""

    task: str
    """What is learned; see `spe_dist/tasks.py`."""
    run: RunConfig
    data: FinetuneDataConfig
    start: StartConfig
    encoder: EncoderConfig
    optimizer: FinetuneOptimizerConfig
    train: FinetuneTrainConfig
    kernels: KernelsConfig = field(default_factory=KernelsConfig)
    seeds: Positive = 1
    """How many: `run.seed` and the numbers after it. Several are trained by Ray."""
    cluster: SeedsOnRayConfig = field(default_factory=SeedsOnRayConfig)

    def check(self) -> None:
        """Raise a UserError if settings of the task do not fit each other."""

    def build_task(self) -> Task[Any, Any]:
        """The task with these settings; imports what trains it."""
        raise NotImplementedError

    @classmethod
    def scoring(cls) -> Scoring[Any]:
        """How predictions of the task are read and scored."""
        raise NotImplementedError

    @property
    def run_folder(self) -> str:
        """Folder of this run."""
        return f"{self.run.folder.rstrip('/')}/{self.run.name}"

    def of_each_seed(self) -> list[FinetuneConfig]:
        """The configuration of each seed alone."""
        first = self.run.seed
        return [replace(self, run=replace(self.run, seed=first + i), seeds=1) for i in range(self.seeds)]
