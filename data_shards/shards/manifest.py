"""`manifest.json`: what a dataset holds. It is written last, so a folder without one is not a dataset.

Keys follow WebDataset's `wids` index where that has them; the rest is ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from heapq import nsmallest
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import Field, TypeAdapter, ValidationError

from data_shards.errors import UserError
from data_shards.files import sha256_of, write_atomically
from data_shards.shards.location import is_remote, join_url, read_remote, without_secrets
from data_shards.shards.record import DOCUMENT_LAYERS, ENTITIES, SCHEMA_VERSION, Records
from data_shards.tokenizer.files import SpecialIds

MANIFEST_NAME = "manifest.json"
MAX_ENTITY_TYPES = 1024

_KIND = {"__kind__": "wids-shard-index-v1", "wids_version": 1}
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")

_OWN_SIZES = ("words", "pieces", ENTITIES)  # layers whose sizes are fields of their own

Count = Annotated[int, Field(ge=0, le=1 << 40)]


def layer_sizes(records: Records) -> dict[str, Any]:
    """The number of values in each layer, as the fields of `Shard` and `Statistics` that hold it."""
    sizes = {name: len(layer.values) for name, layer in records.layers.items()}
    return {name: sizes.pop(name, 0) for name in _OWN_SIZES} | {"further": sizes}


@dataclass(frozen=True)
class Shard:
    """One tar file. `nsamples` counts tar groups (blocks), as WebDataset does; `records` counts sentences."""

    url: str
    nsamples: Count
    filesize: Count
    records: Count
    words: Count
    pieces: Count
    sha256: str
    entities: Count = 0
    further: Mapping[str, Count] = field(default_factory=dict)
    """Values of further layers, by name."""

    def size(self, layer: str) -> int:
        """Values of a layer; 0 if the dataset has none."""
        return getattr(self, layer) if layer in _OWN_SIZES else self.further.get(layer, 0)


@dataclass(frozen=True)
class TokenizerInfo:
    """The tokenizer that made the pieces; its files lie in `folder` beside the shards."""

    folder: str
    files: Mapping[str, str]
    """File name to SHA-256."""
    fingerprint: str
    vocab_size: int
    lowercase: bool | None
    special_ids: SpecialIds


@dataclass(frozen=True)
class Statistics:
    """Counts over a corpus. `records` are the sentences that were kept; words and pieces are theirs."""

    documents: int = 0
    sentences: int = 0
    records: int = 0
    words: int = 0
    pieces: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Sentences that were not kept, by reason; of documents, also records of several sentences."""
    bad_lines: int = 0
    entities: int = 0
    """Number of entities of the records that were kept."""
    entity_changes: Mapping[str, int] = field(default_factory=dict)
    """Listed entities that were widened to whole words, or left out and why (`entity_words`)."""

    unknown_pieces: int = 0
    """Number of pieces that stand for text which the vocabulary lacks."""
    further: Mapping[str, int] = field(default_factory=dict)
    """Values of further layers, by name."""
    found: Mapping[str, int] = field(default_factory=dict)
    """In documents, before records are dropped: words and records, mentions, facts, and what became of these."""
    repeated: Mapping[str, int] = field(default_factory=dict)
    """The sentences that occur most often, and how often at least: each shard counts its most frequent ones.
    Counted before duplicates are dropped."""

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(**{f.name: _sum(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)})


def most_repeated(counts: Mapping[str, int], most: int) -> dict[str, int]:
    """The sentences with the highest counts, ties in their order; a sentence that occurs once is not repeated."""
    repeated = ((text, count) for text, count in counts.items() if count > 1)
    return dict(nsmallest(most, repeated, key=lambda item: (-item[1], item[0])))


def _sum(one: int | Mapping[str, int], other: int | Mapping[str, int]) -> Any:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return {key: one.get(key, 0) + other.get(key, 0) for key in sorted({*one, *other})}
    return cast(int, one) + cast(int, other)


@dataclass(frozen=True)
class RelationType:
    """A relation of a dataset of documents: its name in words ("place of birth"), and its number of facts."""

    name: str
    facts: Count


@dataclass(frozen=True)
class Manifest:
    """A dataset: its shards in order, the tokenizer, and how it was built."""

    name: str
    shardlist: tuple[Shard, ...]
    layers: tuple[str, ...]
    block_records: int
    """Records in each block of a shard; the last one of a shard may hold fewer."""
    max_pieces: int
    """Most pieces a record can have, [CLS] and [SEP] included."""
    tokenizer: TokenizerInfo
    build: Mapping[str, Any]
    statistics: Statistics
    entity_types: Mapping[str, int] = field(default_factory=dict)
    """Names of the types of entities in the order of their ids, with numbers of entities; empty without the layer."""

    relation_types: Mapping[str, RelationType] = field(default_factory=dict)
    """The relations by their codes ("P19"), in the order of their numbers; empty without the layer."""

    def __post_init__(self) -> None:
        for name in (*(shard.url for shard in self.shardlist), self.tokenizer.folder, *self.tokenizer.files):
            if not FILE_NAME.fullmatch(name):
                raise UserError(f"{MANIFEST_NAME}: {name!r} is not a plain file name: do not trust this dataset")

    @property
    def shard_records(self) -> tuple[int, ...]:
        """Records in each shard, in order."""
        return tuple(shard.records for shard in self.shardlist)

    @property
    def language(self) -> str:
        """Whose rules cut the text into sentences and words (a spaCy language code)."""
        build = self.build
        origins = ("annotated", "documents_cut", "sentences_paired")
        while before := next((build[origin] for origin in origins if origin in build), None):  # built from other shards
            build = before["build"]
        return build.get("language", "en")

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all that decides the data: the shards' hashes in order, the tokenizer, names of types."""
        parts: list[Any] = [[shard.sha256 for shard in self.shardlist], self.tokenizer.fingerprint, SCHEMA_VERSION]
        if self.entity_types:
            parts.append(list(self.entity_types))
        if self.relation_types:
            parts.append([(code, relation.name) for code, relation in self.relation_types.items()])
        return sha256_of(json.dumps(parts).encode())

    def require_entities(self, location: str | Path) -> tuple[str, ...]:
        """The names of the types of entities, in the order of their ids.

        Args:
            location: what the error calls the dataset.
        """
        if ENTITIES not in self.layers:
            raise UserError(
                f"{location} has no entities: add them with: spe shards annotate {location} --out DIR --ner PIPELINE, "
                "or build with --ner PIPELINE or --gold-entities"
            )
        return tuple(self.entity_types)

    def require_documents(self, location: str | Path) -> None:
        """Refuse a dataset of sentences.

        Args:
            location: what the error calls the dataset.
        """
        if lacking := [name for name in (ENTITIES, *DOCUMENT_LAYERS) if name not in self.layers]:
            raise UserError(
                f"{location} has no documents with entities and relations (it lacks {', '.join(lacking)}): build them "
                "with: spe shards build INPUT --documents, from annotated documents or with --kb FOLDER"
            )

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        own = asdict(self, dict_factory=_without_nothing_further)
        return json.dumps(_KIND | {"schema_version": SCHEMA_VERSION} | own, indent=2) + "\n"

    def save(self, folder: Path) -> None:
        """Write `manifest.json` into a folder, atomically."""
        write_atomically(folder / MANIFEST_NAME, self.to_json().encode())


def _without_nothing_further(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in items if name not in ("further", "relation_types", "found") or value}


def load(location: str | Path) -> Manifest:
    """Read the manifest of a dataset in a folder or at a URL.

    Raises:
        UserError: nothing there, not a dataset, or one that this version does not read.
    """
    if is_remote(location):
        url = without_secrets(join_url(str(location), MANIFEST_NAME))
        return parse(read_remote(str(location), MANIFEST_NAME), url)
    return parse(_read_local(Path(location)), f"{str(location).rstrip('/')}/{MANIFEST_NAME}")


def _read_local(folder: Path) -> bytes:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the folder that `spe shards build` wrote")
    try:
        return (folder / MANIFEST_NAME).read_bytes()
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} is not a dataset: no {MANIFEST_NAME}; build one with: spe shards build INPUT --out {folder}"
        ) from error


def parse(content: bytes, where: str) -> Manifest:
    """A manifest from its text; `where` is what errors call it."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not valid JSON ({error}): copy or build the dataset again") from error
    if not isinstance(document, dict) or any(document.get(key) != value for key, value in _KIND.items()):
        raise UserError(f"{where}: not an index of shards ({_KIND['__kind__']}): is this the right folder?")
    _check_schema(document.get("schema_version"), where)
    try:
        return TypeAdapter(Manifest).validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{where}: malformed at {place}: {first['msg']}: copy or build the dataset again") from error


def _check_schema(version: object, where: str) -> None:
    if not isinstance(version, int):
        raise UserError(f"{where}: no schema_version: written by another program; build it with `spe shards build`")
    if version > SCHEMA_VERSION:
        raise UserError(
            f"{where}: schema version {version} is newer than this program reads ({SCHEMA_VERSION}): update spe_dist"
        )
    if version < SCHEMA_VERSION:
        raise UserError(f"{where}: schema version {version} is too old: build the dataset again")
