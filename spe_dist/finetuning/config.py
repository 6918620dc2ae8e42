"""The settings that every fine-tuning has; tasks add their own. What the papers fix has no default: recipes say it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from data_shards.errors import UserError
from data_shards.text.offset_units import OffsetUnit
from spe_dist.config import STRICT, Count, EncoderConfig, KernelsConfig, Part, Positive, RunConfig, Share, Weight

if TYPE_CHECKING:
    from spe_dist.finetuning.task import Scoring, Task

BERT = "bert"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FinetuneDataConfig:
    """Annotated data; extraction reads any format that `spe data check` does."""

    train: str
    """File of annotated data for training."""
    dev: str | None
    """File of annotated data that selects the best epoch."""
    test: str | None = None
    """File of annotated data for testing, evaluated once after training."""
    fraction: Part = 1.0
    """Share of the training data to use, selected by the seed; a smaller share is a subset of a larger one."""
    offsets: OffsetUnit = "characters"
    """Unit of offsets in a text: characters (Unicode code points), utf16 (units of JavaScript, Java and C#) or
    bytes (of UTF-8)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StartConfig:
    """Starting weights."""

    pretrained: str
    """Starting weights: a run of `spe pretrain`, its export, a fine-tuned model (RUN/seed-N/model), or "bert" (the
    encoder named by `encoder.name_or_path`; all other parts are new)."""
    no_cnn: bool = False
    """Load only the sentence encoder; the span encoder, the pair encoder and all other parts are new (the paper's
    ablation "-CNN")."""
    keep_heads: bool = True
    """When starting from a fine-tuned model, also keep its classifiers; task and labels must be the same."""
    tokenizer: str | None = None
    """Tokenizer of a new encoder, or of an encoder whose folder has none."""
    language: str = "en"
    """Language (spaCy code) whose rules split raw text, in annotated data and in prediction. A start from a run uses
    the run's language instead."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FinetuneOptimizerConfig:
    """AdamW with linear warm-up and linear decay to 0."""

    learning_rate: Weight
    """Peak learning rate of the sentence encoder's last layer."""
    warmup_share: Share
    """Share of all updates used for linear warm-up."""
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    """Factor on the learning rate from each layer of the sentence encoder to the one below."""
    embeddings: Literal["lowest_layer", "full"] = "lowest_layer"
    """Learning rate of the embeddings: that of the lowest layer, or the full learning rate without decay (as in the
    papers' program)."""
    heads: Weight = 1.0
    """Learning rate of all parts above the sentence encoder, as a multiple of the encoder's."""
    betas: tuple[Share, Share]
    """Decay rates of Adam's first and second moments."""
    eps: Annotated[float, Field(gt=0)]
    """Adam's epsilon."""
    weight_decay: Weight
    """Weight decay, not applied to biases and norms."""
    clip: Annotated[float, Field(gt=0)]
    """Maximum gradient norm."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FinetuneTrainConfig:
    """Length of training, evaluation and checkpoints."""

    epochs: Positive
    """Maximum number of epochs."""
    batch_size: Positive
    """Items per update (sentences, for extraction)."""
    first_evaluation: Count = 0
    """First epoch, counted from 0, after which dev is evaluated."""
    patience: Count
    """Epochs without a new best on dev after which training ends, counted from the first correct prediction on dev."""
    precision: Literal["bf16", "fp32"]
    """Precision of forward and backward passes: bf16 (with fp32 master weights) or fp32."""
    checkpoint_every: Count = 1
    """Epochs between checkpoints, from which a killed run resumes; 0 writes none."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SeedsOnRayConfig:
    """Parallel training of several seeds; each is one rank."""

    parallel: Positive | None = None
    """Maximum number of seeds trained at the same time. Null: as many as there are cores or GPUs."""
    gpus_per_seed: Literal[0, 1] | None = None
    """GPUs per seed, 0 or 1. Null: 1 if there are any."""
    address: str | None = None
    """Ray cluster to join ("auto": the one on this machine). Null joins $RAY_ADDRESS or starts Ray here."""
    allow_unauthenticated: bool = False
    """Join or start a Ray that requires no token. Anyone who can reach its ports can then run code on its nodes."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FinetuneConfig(ABC):
    """Fine-tuning. Several seeds share the run's folder."""

    has_offsets: ClassVar[bool] = True  # whether some files of the task give offsets in a text

    task: str
    """Task to learn; `spe_dist/tasks.py` lists all."""
    run: RunConfig
    data: FinetuneDataConfig
    start: StartConfig
    encoder: EncoderConfig
    optimizer: FinetuneOptimizerConfig
    train: FinetuneTrainConfig
    kernels: KernelsConfig = field(default_factory=KernelsConfig)
    seeds: Positive = 1
    """Number of seeds: `run.seed` and the numbers after it. Several seeds are trained with Ray."""
    cluster: SeedsOnRayConfig = field(default_factory=SeedsOnRayConfig)

    def check(self) -> None:
        """Raise a UserError if settings of the task do not fit each other."""
        if not self.has_offsets and self.data.offsets != "characters":
            raise UserError(
                f"data.offsets is {self.data.offsets}, but files of {self.task} have no offsets in a text: remove it"
            )

    @classmethod
    @abstractmethod
    def task_class(cls) -> type[Task[Any, Any]]:
        """The task; imports what trains it."""

    def build_task(self) -> Task[Any, Any]:
        """The task with these settings."""
        return self.task_class()(self)

    @classmethod
    @abstractmethod
    def scoring(cls) -> Scoring[Any]:
        """How predictions of the task are read and scored."""

    @property
    def run_folder(self) -> str:
        """Folder of this run."""
        return f"{self.run.folder.rstrip('/')}/{self.run.name}"

    def of_each_seed(self) -> list[FinetuneConfig]:
        """The configuration of each seed alone."""
        first = self.run.seed
        return [replace(self, run=replace(self.run, seed=first + i), seeds=1) for i in range(self.seeds)]
