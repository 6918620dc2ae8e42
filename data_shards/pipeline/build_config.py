"""The settings of a build, checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_shards.errors import UserError
from data_shards.input.format import TextFormat
from data_shards.pipeline.document_filter import DocumentFilter
from data_shards.text.offset_units import OffsetUnit

_DOCUMENT_SETTINGS = ("min_facts", "max_entities", "max_facts")


@dataclass(frozen=True)
class RecordLimits:
    """What a record may be; `max_words` is None if only pieces limit it."""

    min_words: int
    max_words: int | None
    max_pieces: int


@dataclass(frozen=True)
class BuildConfig:
    """How to build shards from text. Default limits are those of the papers (SPE; with --documents ERICA)."""

    inputs: tuple[str, ...]
    """Files or folders: a sentence per line, JSON lines or lists, Parquet, WikiExtractor output, words with tags (BIO
    columns, .csv), compressed (.gz, .bz2) or not. - is standard input."""
    out: Path
    """Folder for the dataset; must be new, empty or of this dataset."""
    tokenizer: str
    """Tokenizer folder, vocabulary file (.txt) or Hugging Face name; debug is a vocabulary that comes with spe."""
    name: str | None = None
    """Name of the dataset. Default: the name of the output folder."""
    format: TextFormat | None = None
    """Format of the files. Default: recognised by their first lines, then by their endings."""
    text_field: str = "text"
    """Field of a JSON object, or column of a table (Parquet, CSV, TSV), that holds the text."""
    language: str = "en"
    """Language (spaCy code) whose rules split text into sentences and words."""
    lowercase: bool | None = None
    """Whether to lower-case text; for vocabulary files only. Default: decided by the vocabulary."""
    unit_documents: int | None = None
    """Documents per unit of work and per shard. Default: 5,000, or 50,000 sentences of .txt."""
    block_records: int = 2048
    """Records per tar group."""
    min_words: int | None = None
    """Drop sentences with fewer words; punctuation does not count. With --documents: drop records with fewer words;
    punctuation counts. Default: 2, with --documents 128."""
    max_words: int | None = None
    """Drop sentences with more words; punctuation counts. Default: 128. Not with --documents."""
    max_pieces: int | None = None
    """Drop sentences with more pieces, including [CLS] and [SEP]. With --documents, also the maximum size of a record,
    which takes as many sentences as fit. Default: 128, with --documents 480."""
    max_bad_lines: int = 100
    """Maximum number of malformed lines, rows or blocks to skip; one more stops the build."""
    ner: str | None = None
    """Find entities with this spaCy pipeline: the name of an installed one, or a folder."""
    gold_entities: bool = False
    """Use the entities in the input: the JSON field `entities`, or the tags of a BIO file."""
    offsets: OffsetUnit = "characters"
    """Unit of entity offsets in a text: characters (Unicode code points), utf16 (units of JavaScript, Java and C#) or
    bytes (of UTF-8)."""
    min_entities: int | None = None
    """Drop records with fewer entities. Default: 0, with --documents 4."""
    documents: bool = False
    """Make each record from consecutive whole sentences of a document, with mentions of entities and the relations
    between the entities. They come from annotated documents (DocRED, T-REx or REBEL, unified, SpERT, DyGIE,
    characters) or, with --kb, from a knowledge base. A line of plain text (.txt) is a document."""
    min_facts: int | None = None
    """With --documents, drop records with fewer related ordered pairs of entities. Default: 4."""
    max_entities: int | None = None
    """With --documents, drop records with more entities. Default: 64."""
    kb: Path | None = None
    """With --documents, find mentions and relations in plain text: the folder of a knowledge base (spe kb convert)
    whose names are searched in the text, and whose facts hold between the entities found."""
    unlinked: bool = False
    """With --kb and --ner, also keep entities that the pipeline finds and the knowledge base does not know. Without
    --unlinked, an entity must be found by both."""
    exclude_facts: tuple[str, ...] = ()
    """With --documents, files of evaluation data (DocRED or another format of annotated data, TACRED, SemEval). Pairs
    of entities whose names are related there, in either order, are neither related nor unrelated in the dataset."""
    max_facts: int | None = None
    """With --documents, drop records with more related ordered pairs of entities. Default: 60."""
    dedup: bool = False
    """Drop sentences (with --documents, whole records) whose pieces are all equal to those of an earlier one in any of
    the files. Needs twice the disk space until the build is finished."""
    parallelism: int | None = None
    """Worker processes. Default: all cores. Does not change the output."""

    def __post_init__(self) -> None:
        for name in ("unit_documents", "block_records", "min_words", "parallelism"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, not {value}")
        self._check_documents()
        limits = self.limits
        if limits.max_words is not None and limits.max_words < limits.min_words:
            raise UserError(f"max_words ({limits.max_words}) must not be below min_words ({limits.min_words})")
        if not 3 <= limits.max_pieces <= 1 << 16:
            raise UserError(f"max_pieces must be between 3 and {1 << 16}, not {limits.max_pieces}")
        for name in ("max_bad_lines", "min_entities", *_DOCUMENT_SETTINGS):
            if (getattr(self, name) or 0) < 0:
                raise UserError(f"{name} must not be negative, not {getattr(self, name)}")
        if self.ner and self.gold_entities:
            raise UserError("entities come from --ner or from --gold-entities, not from both: leave one out")
        if self.offsets != "characters" and not self.has_gold_entities:
            raise UserError(f"--offsets {self.offsets} needs entities in the input: add --gold-entities")
        if self.min_entities and not (self.ner or self.kb or self.has_gold_entities):
            raise UserError("--min-entities needs entities: add --ner PIPELINE or --gold-entities")

    def _check_documents(self) -> None:
        if not self.documents:
            for name in (*_DOCUMENT_SETTINGS, "kb", "unlinked", "exclude_facts"):
                if getattr(self, name) not in (None, False, ()):
                    raise UserError(f"--{name.replace('_', '-')} is about documents: add --documents")
            return
        for name in ("max_words", "gold_entities", *([] if self.kb else ["ner"])):
            if getattr(self, name):
                advice = "add --kb FOLDER, or leave it out" if name == "ner" else "leave it out"
                raise UserError(f"--{name.replace('_', '-')} has no effect with --documents: {advice}")
        if self.unlinked and not (self.kb and self.ner):
            raise UserError("--unlinked keeps entities that --ner finds and --kb does not know: add these two")
        chosen = self.document_filter
        for name in ("entities", "facts"):
            least, most = getattr(chosen, f"min_{name}"), getattr(chosen, f"max_{name}")
            if most < least:
                raise UserError(f"max_{name} ({most}) must not be below min_{name} ({least})")

    @property
    def limits(self) -> RecordLimits:
        """Words and pieces of a record, given or the default."""
        default = RecordLimits(128, None, 480) if self.documents else RecordLimits(2, 128, 128)
        return RecordLimits(
            default.min_words if self.min_words is None else self.min_words,
            default.max_words if self.max_words is None else self.max_words,
            default.max_pieces if self.max_pieces is None else self.max_pieces,
        )

    @property
    def document_filter(self) -> DocumentFilter:
        """Which documents are kept, given or the default."""
        names = ("min_entities", *_DOCUMENT_SETTINGS)
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return DocumentFilter(min_words=self.limits.min_words, **given)

    @property
    def has_gold_entities(self) -> bool:
        """Whether entities are those that the input lists."""
        return self.gold_entities or (self.documents and self.kb is None)


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


@dataclass(frozen=True)
class SentencesConfig:
    """Make a dataset of sentences from one of documents."""

    dataset: str
    """Folder or URL of a dataset of documents."""
    out: Path
    """Folder for the new dataset; must be new, empty or of this dataset."""
    name: str | None = None
    """Name of the dataset. Default: the name of the output folder."""
    min_entities: int = 2
    """Drop sentences with fewer entities."""
    min_facts: int = 0
    """Drop sentences with fewer related ordered pairs of entities."""
    max_pieces: int = 128
    """Drop sentences with more pieces, including [CLS] and [SEP]."""
    workers: int | None = None
    """Worker processes. Default: all cores. Does not change the output."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UserError(f"workers must be at least 1, not {self.workers}")
        for name in ("min_entities", "min_facts"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} must not be negative, not {getattr(self, name)}")
        if not 3 <= self.max_pieces <= 1 << 16:
            raise UserError(f"max_pieces must be between 3 and {1 << 16}, not {self.max_pieces}")


@dataclass(frozen=True)
class PairConfig:
    """Make a dataset of pairs of sentences from one of sentences with entities of a knowledge base."""

    dataset: str
    """Folder or URL of a dataset that spe shards sentences wrote."""
    out: Path
    """Folder for the new dataset; must be new, empty or of this dataset."""
    by: Literal["entities"] = "entities"
    """What the two facts of a positive pair have in common: head and tail. Those of a negative one share one of the
    two."""
    most_sentences: int = 8
    """Maximum number of sentences of each entity pair, all of which are paired with each other."""
    seed: int = 0
    """Random seed for the choice of sentences and of negatives."""
    name: str | None = None
    """Name of the dataset. Default: the name of the output folder."""
    workers: int | None = None
    """Worker processes. Default: all cores. Does not change the output."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise UserError(f"workers must be at least 1, not {self.workers}")
        if self.most_sentences < 2:
            raise UserError(f"most_sentences must be at least 2, not {self.most_sentences}: a pair has two")
        if self.seed < 0:
            raise UserError(f"seed must not be negative, not {self.seed}")
