"""Which entities a dataset is to have; words → entities, by a spaCy pipeline."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from data_shards.errors import UserError
from data_shards.files import sha256_of, sha256_of_file
from data_shards.ragged import Ragged
from data_shards.shards.manifest import MAX_ENTITY_TYPES
from data_shards.shards.record import Records
from data_shards.text.offset_units import OffsetUnit

_SENTENCES_AT_A_TIME = 2048  # fixed, as sums of floats may depend on it
_ZONE = 20_000  # sentences after which spaCy forgets the words it has seen


@dataclass(frozen=True)
class NerInfo:
    """A pipeline: where this machine has it, and what tells it apart from others everywhere."""

    source: str
    """Name of an installed package, or an absolute folder."""
    name: str
    version: str
    sha256: str
    """Over all of its files."""
    types: tuple[str, ...]

    @property
    def settings(self) -> dict[str, str]:
        """What decides the entities it finds: no path of this machine."""
        return {
            "name": self.name,
            "version": self.version,
            "sha256": self.sha256,
            "sentences_at_a_time": str(_SENTENCES_AT_A_TIME),
        }


@dataclass(frozen=True)
class EntityPlan:
    """Where entities come from; `types` are their names in the order of their ids."""

    types: tuple[str, ...]
    ner: NerInfo | None
    """The pipeline that finds them; None for gold entities, and for linked ones that no pipeline need find."""
    min_entities: int
    offsets: OffsetUnit = "characters"
    """What gold entities in a text are counted in."""
    are_linked: bool = False
    """Whether they are names that a knowledge base lists."""

    @property
    def are_gold(self) -> bool:
        """Whether the documents list them."""
        return self.ner is None and not self.are_linked

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides bytes, as it stands in the manifest."""
        return {
            "types": list(self.types),
            "from": self.ner.settings if self.ner else "knowledge base" if self.are_linked else "gold",
            "min_entities": self.min_entities,
            **({} if self.offsets == "characters" else {"offsets": self.offsets}),
            "versions": {} if self.ner is None else {name: version(name) for name in ("spacy", "thinc", "numpy")},
        }

    def keep_eligible(self, records: Records) -> Records:
        """The records that have enough entities."""
        return records.take(np.flatnonzero(records.entities.lengths >= self.min_entities))


class NerPipeline:
    """Finds entities in sentences of words.

    Args:
        source: name of an installed spaCy package, or a folder.

    Raises:
        UserError: it is not there, spaCy cannot load it, or it finds no entities.
    """

    def __init__(self, source: str) -> None:
        source = str(Path(source).absolute()) if Path(source).is_dir() else source
        self._nlp = _load(source)
        self._types_of_labels = _select_pipes(self._nlp, source)
        meta = self._nlp.meta
        self.info = NerInfo(
            source=source,
            name=f"{meta['lang']}_{meta['name']}",
            version=meta["version"],
            sha256=_sha256_of_folder(self._nlp.path),
            types=tuple(self._types_of_labels),
        )

    def find(self, sentences: Sequence[Sequence[str]]) -> Ragged:
        """The entities of sentences, as rows (first word, word after the last, type).

        Args:
            sentences: the words of each; equal sentences in equal order have equal entities.

        Raises:
            UserError: the pipeline names a type that it does not list.
        """
        parts = [self._find(sentences[start : start + _ZONE]) for start in range(0, len(sentences), _ZONE)]
        found = list(chain.from_iterable(parts))
        rows = np.array(list(chain.from_iterable(found)), dtype=np.int64).reshape(-1, 3)
        return Ragged.from_lengths(rows, np.fromiter(map(len, found), dtype=np.int64, count=len(found)))

    def _find(self, sentences: Sequence[Sequence[str]]) -> list[list[tuple[int, int, int]]]:
        from spacy.tokens import Doc

        with self._nlp.memory_zone():
            documents = (Doc(self._nlp.vocab, words=words) for words in sentences)
            return [
                [(entity.start, entity.end, self._type_of(entity.label_)) for entity in document.ents]
                for document in self._nlp.pipe(documents, batch_size=_SENTENCES_AT_A_TIME)
            ]

    def _type_of(self, label: str) -> int:
        if label not in self._types_of_labels:
            raise UserError(f"{self.info.source}: found an entity of type {label!r}, which the pipeline does not list")
        return self._types_of_labels[label]


@lru_cache(maxsize=1)
def pipeline_of_worker(info: NerInfo) -> NerPipeline:
    """The pipeline, loaded once per process.

    Raises:
        UserError: this machine has another one under that name.
    """
    pipeline = NerPipeline(info.source)
    if pipeline.info != info:
        raise UserError(f"{info.source}: the pipeline differs between machines: install the same version everywhere")
    return pipeline


def _load(source: str) -> Any:
    import spacy
    from thinc.api import use_ops

    folder = Path(source)
    if not folder.is_dir() and folder.name != source:
        raise UserError(f"{source}: no such folder; `spacy train` writes one (docs/entities.md)")
    if not folder.is_dir() and not spacy.util.is_package(source):
        raise UserError(
            f"no spaCy pipeline {source!r}: install it (python -m spacy download {source}), or name the "
            "folder that `spacy train` wrote (docs/entities.md)"
        )
    try:
        with use_ops("numpy", use_blis=False):  # thinc's own BLIS takes up to four times as long as numpy
            return spacy.load(source)
    except Exception as error:  # spaCy, thinc and pydantic raise all kinds; whatever it is, this cannot be used
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{source}: spaCy {spacy.__version__} cannot load this pipeline{_made_for(source)} ({reason[:200]})"
        ) from error


def _made_for(folder: str) -> str:
    try:
        wanted = json.loads((Path(folder) / "meta.json").read_text()).get("spacy_version")
    except (OSError, ValueError):
        return ""
    return f", which was made for spaCy {wanted}" if wanted else ""


def _select_pipes(nlp: Any, source: str) -> dict[str, int]:
    """Switch off all but what finds entities and what that listens to; returns {label: type}."""
    finders = [name for name in nlp.pipe_names if "doc.ents" in nlp.get_pipe_meta(name).assigns]
    labels = sorted({label for name in finders for label in nlp.get_pipe(name).labels})
    if not labels:
        raise UserError(
            f"{source}: has no component that finds entities (only {', '.join(nlp.pipe_names) or 'words'}): name a "
            "pipeline with the component ner"
        )
    if len(labels) > MAX_ENTITY_TYPES:
        raise UserError(
            f"{source}: {len(labels)} types of entities, more than the {MAX_ENTITY_TYPES} that shards can hold: name a "
            "pipeline with fewer"
        )
    heard = [name for name in nlp.pipe_names if {*_listeners(nlp.get_pipe(name))} & {*finders}]
    nlp.select_pipes(enable=[*heard, *finders])
    return {label: number for number, label in enumerate(labels)}


def _listeners(pipe: Any) -> Sequence[str]:
    return getattr(pipe, "listening_components", ())  # of tok2vec and transformer


def _sha256_of_folder(folder: Path) -> str:
    files: Iterator[Path] = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return sha256_of(
        json.dumps([(path.relative_to(folder).as_posix(), sha256_of_file(path)) for path in files]).encode()
    )
