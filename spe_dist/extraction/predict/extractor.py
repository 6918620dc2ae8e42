"""A trained extractor for people: texts in, entities and relations out.

extractor = Extractor.from_pretrained("runs/people/seed-1/model")
(found,) = extractor(["Marie Curie was born in Warsaw."])
found.entities[0].text, found.entities[0].type, found.relations[0].type
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import deepcopy
from functools import partial
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import torch
from torch import nn

from data_shards.annotated.annotated_sentence import AnnotatedSentence
from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.hub import fetch_model
from data_shards.text.word_pieces import WordPieces
from spe_dist.engine.machine import find_device
from spe_dist.extraction.model.encoded_sentences import SPECIALS
from spe_dist.extraction.model.extractor_model import ExtractorModel
from spe_dist.extraction.predict.cut_texts import CutTexts, Text, cut_texts
from spe_dist.extraction.predict.extracted_text import ExtractedEntity, ExtractedRelation, ExtractedText
from spe_dist.extraction.predict.extractor_folder import WEIGHTS, load_extractor
from spe_dist.extraction.predict.prediction import (
    BATCH_SIZE,
    batches_by_length,
    find_in_rows,
    put_together,
    score_of,
    scored_at_least,
)
from spe_dist.models.int8_layers import BACKEND, Bf16Product
from spe_dist.models.rounded_rows import round_rows
from spe_dist.models.sentence_encoder import SentenceEncoder

Precision = Literal["bf16", "fp32"]

_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
_KEPT_KERNELS = 256  # by oneDNN: for the numbers of rows of some batches; it would keep 1,024, 0.4 GiB
_PORTION_TEXTS, _PORTION_CHARACTERS = 1024, 1 << 18  # of what is cut and sorted at a time: some thousand sentences


def default_precision(device_type: str) -> Precision:
    """Default precision on a device type ("cpu", "cuda")."""
    return "bf16" if device_type == "cuda" else "fp32"


class Extractor:
    """Finds entities and relations in raw text, or in sentences that are words already.

    A relation is found between entities of one sentence. Sentences longer than the encoder takes are read in windows;
    nothing is cut off. Results do not depend on what else is in a batch or a stream, but for rounding (see
    docs/predicting.md).

    It can be pickled, for processes of `multiprocessing`, Ray or Spark: the pickle holds the weights, once. Where it is
    unpickled, the device is chosen anew from what was asked for here.

    Args:
        model: trained, or exported (spe export MODEL --format onnx|int8).
        word_pieces: tokenizer of its sentence encoder.
        device: "cpu", "cuda" or "cuda:N"; CUDA if there is a GPU when not given. An exported model runs on CPUs alone.
        precision: "fp32" or "bf16"; fp32 on a CPU and bf16 on a GPU if not given. An exported model has its own: leave
            it out.
        batch_size: most sentences of a forward.
        min_entity_score: entities with a lower score are left out, and their relations with them.
        min_relation_score: relations with a lower score are left out.

    Raises:
        UserError: there is no such device, or it cannot compute in this precision.
    """

    def __init__(
        self,
        model: ExtractorModel,
        word_pieces: WordPieces,
        *,
        device: str | None = None,
        precision: Precision | None = None,
        batch_size: int = BATCH_SIZE,
        min_entity_score: float = 0.0,
        min_relation_score: float = 0.0,
    ) -> None:
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}: it must be at least 1")
        self.min_entity_score, self.min_relation_score = min_entity_score, min_relation_score
        for name in ("min_entity_score", "min_relation_score"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} is {getattr(self, name):g}: scores are probabilities, from 0 to 1")
        self._asked_for: dict[str, Any] = {"device": device, "precision": precision}
        self.backend: str = model.sentence_encoder.backend
        if self.backend != "torch":
            device = _device_of_export(self.backend, device, precision)
        self.device = find_device(device)
        self.precision = precision or default_precision(self.device.type)
        if self.precision not in _DTYPES:
            raise UserError(f"precision is {self.precision!r}: choose one of {', '.join(_DTYPES)}")
        if self.device.type == "cuda" and self.precision == "fp32":
            raise UserError("precision must be bf16 on CUDA: its packed attention computes in half precision only")
        self.batch_size = batch_size
        if self.device.type == "cpu":
            os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_KEPT_KERNELS))  # read at the first product
        self._model = model.eval().to(self.device, _DTYPES[self.precision])
        if self.device.type == "cpu":
            _make_fast(self._model, _DTYPES[self.precision])
        self._word_pieces = word_pieces
        self._cutting = Lock()  # the table of known words is for one thread at a time

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        device: str | None = None,
        precision: Precision | None = None,
        batch_size: int = BATCH_SIZE,
        min_entity_score: float = 0.0,
        min_relation_score: float = 0.0,
    ) -> Extractor:
        """Load what `spe finetune` wrote (RUN/seed-N/model) or `spe push` uploaded; other arguments as of the class.

        Args:
            model: a folder, or USER/MODEL on the Hugging Face hub; what was downloaded is kept (HF_HOME).
            revision: revision of a model on the hub: a branch, tag or commit.
            token: for the hub; that of HF_TOKEN or of `hf auth login` if not given.
            device: as of the class, and so on.
            precision: precision of computing.
            batch_size: most sentences of a forward.
            min_entity_score: lowest score of entities to return.
            min_relation_score: lowest score of relations to return.

        Raises:
            UserError: not an extractor, a damaged one, one that this version does not read, or one that the hub does
                not give.
        """
        folder = fetch_model(model, WEIGHTS, revision=revision, token=token)
        extractor, word_pieces = load_extractor(folder)
        return cls(
            extractor,
            word_pieces,
            device=device,
            precision=precision,
            batch_size=batch_size,
            min_entity_score=min_entity_score,
            min_relation_score=min_relation_score,
        )

    def __repr__(self) -> str:
        labels = self._model.labels
        entities = counted(len(labels.entity_types), "entity type")
        types = f"{entities}, {counted(len(labels.relation_types), 'relation type')}"
        return f"Extractor({types}; encoder: {self.backend}, all else: {self.precision} on {self.device})"

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        settings: dict[str, Any] = {
            name: getattr(self, name) for name in ("batch_size", "min_entity_score", "min_relation_score")
        }
        parameters, buffers = self._model.parameters(), self._model.buffers()
        there: dict[int, Any] = {id(one): nn.Parameter(one.detach().cpu(), one.requires_grad) for one in parameters}
        there |= {id(one): one.cpu() for one in buffers}
        model = deepcopy(self._model, there)  # there may be no GPU where it is unpickled
        return partial(Extractor, model, self._word_pieces, **settings, **self._asked_for), ()

    @property
    def sentence_encoder(self) -> SentenceEncoder:
        """What reads the pieces of a sentence."""
        return self._model.sentence_encoder

    @property
    def entity_types(self) -> tuple[str, ...]:
        """The types of entities that it tells apart."""
        return self._model.labels.entity_types

    @property
    def relation_types(self) -> tuple[str, ...]:
        """The types of relations that it tells apart."""
        return self._model.labels.relation_types

    def __call__(self, texts: Iterable[Text]) -> list[ExtractedText]:
        """What is in each text, in their order; see `stream`."""
        return list(self.stream(texts))

    def stream(self, texts: Iterable[Text], *, told: Callable[[int], object] | None = None) -> Iterator[ExtractedText]:
        """What is in each text, in their order, while they are read.

        Memory does not grow with the number of texts: about a thousand are read ahead, cut into sentences in a thread
        while those before them are computed, and sorted by length.

        Args:
            texts: each a string of any length, or the words of one sentence.
            told: of sentences, as they are read: a text comes when all those read with it are done. A sentence in
                several windows counts as several.

        Raises:
            TypeError: one is neither; or it is a single string in place of several.
        """
        if isinstance(texts, str):
            raise TypeError("give texts as a list: [text]")
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="cut-texts") as cutter:
            before: Future[CutTexts] | None = None
            for portion in _portions(texts):
                cut = cutter.submit(self._cut, portion)
                if before is not None:
                    yield from self._find(before.result(), told)
                before = cut
            if before is not None:
                yield from self._find(before.result(), told)

    def _cut(self, texts: Sequence[Text]) -> CutTexts:
        with self._cutting:
            return cut_texts(texts, self._word_pieces, max_pieces=self._model.sentence_encoder.max_pieces - SPECIALS)

    def _find(self, cut: CutTexts, told: Callable[[int], object] | None) -> Iterator[ExtractedText]:
        batches = batches_by_length(cut.rows.records, batch_size=self.batch_size)
        special = self._word_pieces.special_ids
        rows = iter(find_in_rows(self._model, cut.rows, special, batches, device=self.device, told=told))
        texts = [_Collected() for _ in cut.strings]
        sentence_texts, first_words = cut.sentence_texts.tolist(), cut.word_offsets.tolist()
        for sentence, (text, windows) in enumerate(zip(sentence_texts, cut.windows, strict=True)):
            found = put_together(AnnotatedSentence(()), windows, list(islice(rows, len(windows))))
            found = scored_at_least(found, self.min_entity_score, self.min_relation_score)
            texts[text].add(cut, sentence, first_words[sentence], found, cut.strings[text])
        for string, tokens, of_text in zip(cut.strings, cut.tokens, texts, strict=True):
            yield of_text.result(string, tokens)


class _Collected:
    """What was found in a text, sentence by sentence."""

    def __init__(self) -> None:
        self.entities: list[ExtractedEntity] = []
        self.relations: list[ExtractedRelation] = []
        self.sentences: list[tuple[int, int]] = []

    def add(self, cut: CutTexts, sentence: int, first_word: int, found: AnnotatedSentence, text: str) -> None:
        start, end = cut.sentence_characters[sentence].tolist()
        self.sentences.append((start, end))
        first_entity = len(self.entities)
        given_as_words = cut.tokens[cut.sentence_texts[sentence]] is not None
        for entity in found.entities:
            first, last = first_word + entity.word_start, first_word + entity.word_end - 1
            start, end = int(cut.word_characters[first, 0]), int(cut.word_characters[last, 1])
            words: tuple[int | None, int | None] = (None, None)
            if given_as_words:
                words = (int(cut.word_numbers[first]), int(cut.word_numbers[last]) + 1)
            self.entities.append(ExtractedEntity(start, end, text[start:end], entity.type, score_of(entity), *words))
        self.relations += [
            ExtractedRelation(
                first_entity + relation.head, first_entity + relation.tail, relation.type, score_of(relation)
            )
            for relation in found.relations
        ]

    def result(self, text: str, tokens: tuple[str, ...] | None) -> ExtractedText:
        return ExtractedText(text, tuple(self.entities), tuple(self.relations), tuple(self.sentences), tokens)


def _device_of_export(backend: str, device: str | None, precision: str | None) -> str:
    """Raise a UserError if an exported model is asked for what it does not compute."""
    if device is not None and device.partition(":")[0] != "cpu":
        raise UserError(f"device is {device!r}, but this model was exported for CPUs ({backend}): leave it out")
    if precision not in (None, "fp32"):
        raise UserError(
            f"precision is {precision!r}, but this model was exported with its own ({backend}): leave it out"
        )
    return "cpu"


def _make_fast(model: ExtractorModel, dtype: torch.dtype) -> None:
    """On a CPU."""
    if model.sentence_encoder.backend == BACKEND and torch.cpu.get_capabilities().get("avx512_bf16"):
        encoders: Any = (model.span_encoder, model.context_encoder)
        for encoder in encoders:
            encoder.taps = Bf16Product(encoder.taps)
    round_rows(model, dtype)
    model.sentence_encoder.predicts = True


def _portions(texts: Iterable[Text]) -> Iterator[list[Text]]:
    portion: list[Text] = []
    characters = 0
    for text in texts:
        portion.append(text)
        characters += _characters(text)
        if len(portion) == _PORTION_TEXTS or characters >= _PORTION_CHARACTERS:
            yield portion
            portion, characters = [], 0
    if portion:
        yield portion


def _characters(text: Text) -> int:
    if isinstance(text, str):
        return len(text)
    if isinstance(text, Sequence) and all(isinstance(word, str) for word in text):
        return sum(map(len, text)) + len(text)
    raise TypeError(f"a text must be a string, or a list of words: {type(text).__name__}")
