"""The settings of a build, checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_shards.corpus import TextFormat
from data_shards.errors import UserError


@dataclass(frozen=True)
class BuildConfig:
    """What to build shards from, and how. The limits' defaults are the SPE paper's."""

    inputs: tuple[str, ...]
    """Files or folders: .txt (sentences), .jsonl, .parquet, WikiExtractor's wiki_00; .gz, .bz2; - is standard input."""
    out: Path
    """Folder for the dataset; it must not hold anything else."""
    tokenizer: str
    """Tokenizer folder, vocabulary file (.txt) or hub name."""
    name: str | None = None
    """Name of the dataset; the output folder's name if not given."""
    format: TextFormat | None = None
    """What the files hold; told by their names if not given."""
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
    """Shorter sentences are dropped."""
    max_words: int = 128
    """Longer sentences are dropped."""
    max_pieces: int = 128
    """Sentences with more pieces, [CLS] and [SEP] included, are dropped."""
    max_bad_lines: int = 100
    """Lines, rows or blocks that are no document to skip before the build stops."""
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
        if self.max_bad_lines < 0:
            raise UserError(f"max_bad_lines must not be negative, not {self.max_bad_lines}")
