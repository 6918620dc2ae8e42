"""One work unit of text → records: documents, sentences, words and pieces, entities if they are asked for."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_shards.annotated.document import Document, DocumentSentences, split_documents
from data_shards.annotated.read_report import ReadReport
from data_shards.files import sha256_of
from data_shards.pipeline.build_config import RecordLimits
from data_shards.pipeline.corpus import BadLine, Source, WorkUnit, parse_annotated, parse_documents
from data_shards.pipeline.document_plan import DocumentPlan
from data_shards.pipeline.document_unit import DocumentUnit
from data_shards.pipeline.finished_unit import TOKENIZER_FOLDER, FinishedUnit, ShardFormat, UnitContent, finish_unit
from data_shards.pipeline.ner_pipeline import EntityPlan, pipeline_of_worker
from data_shards.ragged import Ragged
from data_shards.shards.entity_words import words_of_entities
from data_shards.shards.manifest import Statistics, layer_sizes, most_repeated
from data_shards.shards.record import ENTITIES, Records
from data_shards.text.word_pieces import WordPieces

TEXT_RULES = 2
"""Number of the rules that make records of text: another one whenever they change, as they decide bytes."""

_SPECIALS_PER_RECORD = 2  # [CLS] and [SEP]
_FILLED_CHUNK = re.compile(r"[^\W_]\S*")  # from its first letter or digit on
_FILLED = re.compile(r"[^\W_]")
_COUNTED_REPEATS = 100  # most frequent ones of a unit: all sentences that make up more than a hundredth of it
_HEADING_WORDS = 5  # of six words, half are sentences: "In 2007, 2386 people lived there."
_SENTENCE_ENDS = (".", "!", "?")
_TO_NEXT_LINE = re.compile(r"[^\S\n]*\n\s*\S")
_OF_SENTENCES = ("text", "bio")  # formats whose documents are sentences


@dataclass(frozen=True)
class UnitPlan:
    """All a worker needs to build units: `settings` is the fingerprint of what decides bytes."""

    out: Path
    sources: tuple[Source, ...]
    settings: str
    text_field: str
    language: str
    block_records: int
    limits: RecordLimits
    entities: EntityPlan | None = None
    documents: DocumentPlan | None = None

    def shard_name(self, unit: WorkUnit) -> str:
        """The name a unit's shard has in every build: by input and by unit."""
        width = max(2, len(str(len(self.sources) - 1)))
        return f"{unit.input_index:0{width}}-{unit.unit_index:06}"


def build_unit(plan: UnitPlan, unit: WorkUnit) -> tuple[FinishedUnit, bool]:
    """Build a unit, or find it finished; the second value tells whether it was found.

    Raises:
        UserError: the output folder is full or cannot be written.
    """
    made_from = sha256_of(f"{plan.settings} {plan.sources[unit.input_index].format} ".encode() + unit.lines)
    return finish_unit(
        plan.out,
        plan.shard_name(unit),
        (unit.input_index, unit.unit_index),
        made_from,
        lambda: _content_of_unit(plan, unit),
        lambda: ShardFormat(plan.block_records, plan.limits.max_pieces, _word_pieces(plan).vocab_size),
    )


def _content_of_unit(plan: UnitPlan, unit: WorkUnit) -> UnitContent:
    report = ReadReport(Path(), "unknown")
    documents, bad_lines = _documents(plan, unit, report)
    sentences = split_documents(documents, plan.language)
    headings = _find_headings(sentences) if plan.sources[unit.input_index].format == "wikiextractor" else None
    if plan.documents and plan.entities:
        return _content_of_documents(plan, plan.documents, plan.entities, sentences, headings, report, bad_lines)
    records = _word_pieces(plan).encode_sentences(sentences.texts)
    kept, dropped = _within_limits(records, sentences.texts, headings, plan)
    records = records.take(kept)
    changes: Mapping[str, int] = {}
    if plan.entities:
        entities, changes = _entities(plan, plan.entities, sentences, kept)
        records = plan.entities.keep_eligible(records.with_layer(ENTITIES, entities))
        dropped["too_few_entities"] = len(kept) - len(records)
    statistics = Statistics(
        documents=len(documents),
        sentences=len(sentences.texts),
        records=len(records),
        dropped=dropped,
        bad_lines=len(bad_lines),
        entity_changes=changes,
        unknown_pieces=int((records.pieces.values == _word_pieces(plan).special_ids.unk).sum()),
        **layer_sizes(records),
    )
    types = len(plan.entities.types) if plan.entities else 0
    return UnitContent(records, statistics, bad_lines, types, _repeated(sentences.texts, kept))


def _content_of_documents(
    plan: UnitPlan,
    documents: DocumentPlan,
    entities: EntityPlan,
    sentences: DocumentSentences,
    headings: NDArray[np.bool_] | None,
    report: ReadReport,
    bad_lines: list[BadLine],
) -> UnitContent:
    word_pieces = _word_pieces(plan)
    located = word_pieces.locate_words(sentences.texts)
    unit = DocumentUnit(documents, sentences, located, plan.limits.max_pieces - _SPECIALS_PER_RECORD)
    records, changes = unit.records(headings, entities)
    statistics = Statistics(
        documents=len(sentences.documents),
        sentences=len(sentences.texts),
        records=len(records),
        dropped=unit.dropped,
        bad_lines=len(bad_lines),
        entity_changes=changes,
        unknown_pieces=int((records.pieces.values == word_pieces.special_ids.unk).sum()),
        found=dict(unit.found + report.findings),
        **layer_sizes(records),
    )
    return UnitContent(records, statistics, bad_lines, len(entities.types), relations=len(documents.relations))


def _documents(plan: UnitPlan, unit: WorkUnit, report: ReadReport) -> tuple[list[Document], list[BadLine]]:
    text_format = plan.sources[unit.input_index].format
    if plan.entities and plan.entities.are_gold:
        offsets = plan.entities.offsets
        relations = report if plan.documents else None
        return parse_annotated(unit, text_format, plan.text_field, offsets, plan.language, relations)
    texts, bad_lines = parse_documents(unit, text_format, plan.text_field)
    are_sentences = text_format in (_OF_SENTENCES if plan.documents is None else ("bio",))
    return [Document(text, is_sentence=are_sentences) for text in texts], bad_lines


@lru_cache(maxsize=1)
def _load_word_pieces(folder: str, settings: str, language: str) -> WordPieces:
    """One per worker and build (`settings` tells builds apart); it remembers the words it has cut."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core per worker is the build's own plan
    return WordPieces.load(folder, language=language)


def _word_pieces(plan: UnitPlan) -> WordPieces:
    return _load_word_pieces(str(plan.out / TOKENIZER_FOLDER), plan.settings, plan.language)


def _within_limits(
    records: Records, texts: Sequence[str], headings: NDArray[np.bool_] | None, plan: UnitPlan
) -> tuple[NDArray[np.int64], dict[str, int]]:
    """Which records are within the limits; how many are not, counted under the first reason that holds."""
    words, pieces, limits = records.word_starts.lengths, records.pieces.lengths + _SPECIALS_PER_RECORD, plan.limits
    reasons = {} if headings is None else {"headings": headings}
    reasons |= {
        "too_few_words": (words < limits.min_words) | ~_have_words(texts, plan),
        "too_many_words": words > (limits.max_words or limits.max_pieces),
        "too_many_pieces": pieces > limits.max_pieces,
    }
    kept, dropped = np.ones(len(records), dtype=np.bool_), {}
    for reason, mask in reasons.items():
        dropped[reason] = int((kept & mask).sum())
        kept &= ~mask
    return np.flatnonzero(kept), dropped


def _have_words(texts: Sequence[str], plan: UnitPlan) -> NDArray[np.bool_]:
    """Which texts have words enough, punctuation not counted."""
    least = plan.limits.min_words
    enough = np.fromiter((_filled_chunks(text, least) >= least for text in texts), dtype=np.bool_)
    doubtful = np.flatnonzero(~enough)  # a chunk may hold several words: all of a Chinese sentence
    short = [texts[index] for index in doubtful.tolist()]
    located = _word_pieces(plan).locate_words(short)
    sentence_of_word = np.repeat(np.arange(len(short)), np.diff(located.word_offsets)).tolist()
    filled = [
        sentence
        for sentence, (start, end) in zip(sentence_of_word, located.characters.tolist(), strict=True)
        if _FILLED.search(short[sentence], start, end)
    ]
    enough[doubtful] = np.bincount(np.array(filled, dtype=np.int64), minlength=len(short)) >= least
    return enough


def _filled_chunks(text: str, most: int) -> int:
    """How many chunks of a text hold a letter or digit, counted up to `most`."""
    return sum(1 for _ in islice(_FILLED_CHUNK.finditer(text), most))


def _repeated(texts: Sequence[str], kept: NDArray[np.int64]) -> dict[str, int]:
    counts = Counter(texts[index] for index in kept.tolist())
    return most_repeated(counts, _COUNTED_REPEATS)


def _entities(
    plan: UnitPlan, entities: EntityPlan, sentences: DocumentSentences, kept: NDArray[np.int64]
) -> tuple[Ragged, Mapping[str, int]]:
    """The entities of the sentences that are kept, and what became of listed ones."""
    if entities.ner is None:
        return _gold_entities(plan, entities.types, sentences, kept)
    texts = [sentences.texts[index] for index in kept.tolist()]
    located = _word_pieces(plan).locate_words(texts)
    words = located.words(texts, np.arange(len(texts)))
    return pipeline_of_worker(entities.ner).find(words), {}


def _gold_entities(
    plan: UnitPlan, types: Sequence[str], sentences: DocumentSentences, kept: NDArray[np.int64]
) -> tuple[Ragged, Mapping[str, int]]:
    located = _word_pieces(plan).locate_words(sentences.texts)
    sentence_of_word = np.repeat(np.arange(len(sentences.texts)), np.diff(located.word_offsets))
    characters = located.characters + sentences.starts[sentence_of_word, None]
    found = words_of_entities(characters, located.word_offsets, sentences.entities(types))
    return found.entities.take(kept), found.changes


def _find_headings(sentences: DocumentSentences) -> NDArray[np.bool_]:
    """Which sentences are headings of sections, [S]: short ones that fill a line, with another line after them.

    WikiExtractor writes the headings of sections that hold text, each on a line of its own with a full stop.
    """
    found = np.zeros(len(sentences.texts), dtype=np.bool_)
    document_of = np.searchsorted(sentences.document_starts, sentences.starts, side="right") - 1
    for number, text in enumerate(sentences.texts):
        if _may_be_heading(text):
            document = int(document_of[number])
            start = int(sentences.starts[number] - sentences.document_starts[document])
            found[number] = _fills_line(sentences.documents[document].text, start, start + len(text))
    return found


def _may_be_heading(sentence: str) -> bool:
    return sentence.endswith(_SENTENCE_ENDS) and not sentence[0].islower() and len(sentence.split()) <= _HEADING_WORDS


def _fills_line(text: str, start: int, end: int) -> bool:
    line_start = text.rfind("\n", 0, start) + 1
    return not text[line_start:start].strip() and _TO_NEXT_LINE.match(text, end) is not None
