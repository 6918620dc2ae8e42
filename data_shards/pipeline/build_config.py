"""The settings of a build, checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_shards.errors import UserError
from data_shards.input.format import TextFormat
from data_shards.text.offset_units import OffsetUnit


@dataclass(frozen=True)
class BuildConfig:
    """What to build shards from, and how. The limits' defaults are the SPE paper's."""

    inputs: tuple[str, ...]
    """Files or folders: sentences on lines, JSON lines or lists, Parquet, what WikiExtractor writes; .gz, .bz2; - is
    standard input. Words with tags: columns (BIO), .csv."""
    out: Path
    """Folder for the dataset; it must not hold anything else."""
    tokenizer: str
    """Tokenizer folder, vocabulary file (.txt) or hub name."""
    name: str | None = None
    """Name of the dataset; the output folder's name if not given."""
    format: TextFormat | None = None
    """What the files hold; told by their first lines, then by their endings, if not given."""
    text_field: str = "text"
    """Field of a JSON object, or column of a Parquet file, that holds the text."""
    language: str = "en"
    """Whose rules split sentences and words."""
    lowercase: bool | None = None
    """For vocabulary files: lower-case text or not; decided by the vocabulary if not given."""
    unit_documents: int | None = None
    """Documents per unit of work, and so per shard; 5,000, or 50,000 sentences of .txt, if not given."""
    block_records: int = 2048
    """Records per tar group."""
    min_words: int = 2
    """Sentences with fewer words are dropped; punctuation does not count."""
    max_words: int = 128
    """Longer sentences are dropped; punctuation counts."""
    max_pieces: int = 128
    """Sentences with more pieces, [CLS] and [SEP] included, are dropped."""
    max_bad_lines: int = 100
    """Lines, rows or blocks that are no document to skip before the build stops."""
    ner: str | None = None
    """Find entities with this spaCy pipeline: the name of an installed one, or its folder."""
    gold_entities: bool = False
    """Take the entities that JSON objects list in their field entities, or that tags of a BIO file say."""
    offsets: OffsetUnit = "characters"
    """What the offsets of gold entities in a text count: characters (Unicode code points), UTF-16 units as in
    JavaScript and Java, or bytes of UTF-8."""
    min_entities: int = 0
    """Records with fewer entities are dropped."""
    parallelism: int | None = None
    """Workers; all cores if not given. Changes no byte of the output."""

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
            raise UserError(f"--offsets {self.offsets} is about entities that a file lists: add --gold-entities")
        if self.min_entities and not (self.ner or self.gold_entities):
            raise UserError("--min-entities needs entities: add --ner PIPELINE or --gold-entities")


@dataclass(frozen=True)
class AnnotateConfig:
    """Which dataset to annotate, and how."""

    dataset: str
    """Folder or URL of a dataset without entities."""
    out: Path
    """Folder for the new dataset; it must not hold anything else."""
    ner: str
    """A spaCy pipeline: the name of an installed one, or its folder. It reads words as their pieces say them:
    lower-case and without accents if the dataset's tokenizer is uncased, so it should have learnt from such text
    (docs/entities.md); spe shards build --ner sees the text as it was."""
    name: str | None = None
    """Name of the dataset; the output folder's name if not given."""
    min_entities: int = 0
    """Records with fewer entities are dropped."""
    workers: int | None = None
    """All cores if not given. Changes no byte of the output."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UserError(f"workers must be at least 1, not {self.workers}")
        if self.min_entities < 0:
            raise UserError(f"min_entities must not be negative, not {self.min_entities}")
