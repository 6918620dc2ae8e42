"""The settings of a build, checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_shards.errors import UserError
from data_shards.input.format import TextFormat
from data_shards.text.offset_units import OffsetUnit


@dataclass(frozen=True)
class BuildConfig:
    """How to build shards from text. Default limits are the SPE paper's."""

    inputs: tuple[str, ...]
    """Files or folders: sentences on lines, JSON lines or lists, Parquet, WikiExtractor output, words with tags (BIO
    columns, .csv); .gz and .bz2 too. - is standard input."""
    out: Path
    """Folder for the dataset; must be new, empty or of this dataset."""
    tokenizer: str
    """Tokenizer folder, vocabulary file (.txt) or Hugging Face name."""
    name: str | None = None
    """Name of the dataset. Default: the name of the output folder."""
    format: TextFormat | None = None
    """Format of the files. Default: recognised by their first lines, then by their endings."""
    text_field: str = "text"
    """Field of a JSON object, or column of a Parquet file, that holds the text."""
    language: str = "en"
    """Language (spaCy code) whose rules split text into sentences and words."""
    lowercase: bool | None = None
    """For vocabulary files: whether to lower-case text. Default: decided by the vocabulary."""
    unit_documents: int | None = None
    """Documents per unit of work and per shard. Default: 5,000, or 50,000 sentences of .txt."""
    block_records: int = 2048
    """Records per tar group."""
    min_words: int = 2
    """Drop sentences with fewer words; punctuation does not count."""
    max_words: int = 128
    """Drop sentences with more words; punctuation counts."""
    max_pieces: int = 128
    """Drop sentences with more pieces, including [CLS] and [SEP]."""
    max_bad_lines: int = 100
    """Malformed lines, rows or blocks to skip before the build stops."""
    ner: str | None = None
    """Find entities with this spaCy pipeline: the name of an installed one, or a folder."""
    gold_entities: bool = False
    """Use the entities in the input: the JSON field `entities`, or the tags of a BIO file."""
    offsets: OffsetUnit = "characters"
    """Unit of entity offsets in a text: characters (Unicode code points), utf16 (units of JavaScript, Java and C#) or
    bytes (of UTF-8)."""
    min_entities: int = 0
    """Drop records with fewer entities."""
    parallelism: int | None = None
    """Worker processes. Default: all cores. Does not change the output."""

    def __post_init__(self) -> None:
        for name in ("unit_documents", "block_records", "min_words", "parallelism"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, not {value}")
        if self.max_words < self.min_words:
            raise UserError(f"max_words ({self.max_words}) must not be below min_words ({self.min_words})")
        if not 3 <= self.max_pieces <= 1 << 16:
            raise UserError(f"max_pieces must be between 3 and {1 << 16}, not {self.max_pieces}")
        for name in ("max_bad_lines", "min_entities"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must not be negative, not {getattr(self, name)}")
        if self.ner and self.gold_entities:
            raise UserError("entities come from --ner or from --gold-entities, not from both: leave one out")
        if self.offsets != "characters" and not self.gold_entities:
            raise UserError(f"--offsets {self.offsets} needs entities in the input: add --gold-entities")
        if self.min_entities and not (self.ner or self.gold_entities):
            raise UserError("--min-entities needs entities: add --ner PIPELINE or --gold-entities")


@dataclass(frozen=True)
class AnnotateConfig:
    """Add entities to a dataset."""

    dataset: str
    """Folder or URL of a dataset without entities."""
    out: Path
    """Folder for the new dataset; must be new, empty or of this dataset."""
    ner: str
    """spaCy pipeline: the name of an installed one, or a folder. It reads the text of the pieces, which is lower-case
    without accents if the tokenizer is uncased, so it should be trained on such text. spe shards build --ner uses the
    original text."""
    name: str | None = None
    """Name of the dataset. Default: the name of the output folder."""
    min_entities: int = 0
    """Drop records with fewer entities."""
    workers: int | None = None
    """Worker processes. Default: all cores. Does not change the output."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UserError(f"workers must be at least 1, not {self.workers}")
        if self.min_entities < 0:
            raise UserError(f"min_entities must not be negative, not {self.min_entities}")
