"""`spe predict DOCUMENT_MODEL --mentions SOURCE`: raw texts → documents, whose mentions SOURCE finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from data_shards.annotated.document import Document
from data_shards.errors import UserError
from data_shards.hub import is_hub_name
from data_shards.input.format import annotated_format
from data_shards.text.word_pieces import WordPieces
from launcher.arguments import refuse
from launcher.predict_formats import title_of
from launcher.predict_input import Item
from launcher.predict_results import streamed
from spe_dist.finetuning.model_stem import require_model

if TYPE_CHECKING:
    from launcher.predict import Predict
    from launcher.worded_text import WordedText
    from spe_dist.extraction.predict.extracted_text import ExtractedText
    from spe_dist.extraction.predict.extractor import Extractor

_OF_EXTRACTORS = ("min_entity_score", "batch_size")
_OF_SPACY = ("config.cfg", "meta.json")  # one of them is in the folder of every pipeline
_LISTS = ("entities", "spans", "label", "annotations", "completions", "ner", "triple_list", "relation_list")
_PORTION = 256  # texts whose sentences a pipeline reads at a time


class MarkedText(NamedTuple):
    """A text with its mentions.

    Args:
        document: the text and its mentions.
        sentences: how many it has.
        fields: of the output beside those of the graph: of the object that it came from or, without one, its text.
    """

    document: Document
    sentences: int
    fields: dict[str, Any]


def is_pipeline(source: str) -> bool:
    """Whether what finds mentions is a pipeline of spaCy: an installed package or a folder; else it is an extractor.

    Raises:
        UserError: a folder that is neither.
    """
    folder = Path(source)
    if any((folder / name).is_file() for name in _OF_SPACY):
        return True
    if is_hub_name(source):
        return False
    if not folder.exists() and folder.name == source:
        return True
    try:
        require_model(folder, "extractor")
    except UserError as error:
        raise UserError(f"--mentions: {error}; or name a pipeline of spaCy") from error
    return False


def check_settings(command: Predict) -> None:
    """Raise a UserError if a setting does not go with what finds mentions; loads nothing."""
    assert command.mentions is not None
    refuse(
        command, ("offsets",), "is for files that give their mentions, and with --mentions they give none: remove it"
    )
    if is_pipeline(command.mentions):
        refuse(command, _OF_EXTRACTORS, f"is for extractors, and {command.mentions} is a pipeline of spaCy: remove it")


def marked_texts(
    command: Predict, items: Iterator[Item], word_pieces: WordPieces, changes: Counter[str]
) -> Iterator[MarkedText]:
    """Texts with their mentions, in their order.

    Args:
        command: names what finds mentions, and how it computes.
        items: the texts.
        word_pieces: tokenizer of the model of document relations.
        changes: mentions that do not fall on words are counted here.

    Raises:
        UserError: what finds mentions cannot be loaded; a text has mentions of its own.
    """
    assert command.mentions is not None
    if is_pipeline(command.mentions):
        from data_shards.pipeline.ner_pipeline import NerPipeline

        found = _of_pipeline(NerPipeline(command.mentions), _raw(items), word_pieces)
    else:
        from spe_dist.extraction.predict.extractor import Extractor

        names = ("device", "precision", "batch_size", "min_entity_score")
        extractor = Extractor.from_pretrained(command.mentions, **{name: getattr(command, name) for name in names})
        found = _of_extractor(extractor, _raw(items), word_pieces)
    for fields, text, spans in found:
        yield MarkedText(text.with_mentions(spans, changes), len(text.word_offsets) - 1, fields)


_Found = tuple[dict[str, Any], "WordedText", list[tuple[int, int, str]]]


def _of_extractor(extractor: Extractor, items: Iterator[Item], word_pieces: WordPieces) -> Iterator[_Found]:
    for fields, extracted in streamed(extractor, items):
        given = extracted.text if extracted.tokens is None else list(extracted.tokens)
        yield *_worded(given, fields, word_pieces), list(_spans(extracted))


def _spans(extracted: ExtractedText) -> Iterator[tuple[int, int, str]]:
    for entity in extracted.entities:
        if entity.token_start is None or entity.token_end is None:
            yield entity.start, entity.end, entity.type
        else:
            yield entity.token_start, entity.token_end, entity.type


def _of_pipeline(pipeline: Any, items: Iterator[Item], word_pieces: WordPieces) -> Iterator[_Found]:
    """Like shards, whose sentences of words a pipeline reads; here in the letters of the text."""
    types = pipeline.info.types
    while portion := [_worded(item.text, item.fields, word_pieces) for item in islice(items, _PORTION)]:
        sentences = [sentence for _, text in portion for sentence in text.sentences]
        found, sentence = pipeline.find(sentences), 0
        for fields, text in portion:
            spans = []
            words = text.words.tolist()
            for first_word in text.word_offsets[:-1].tolist():
                spans += [
                    (words[first_word + first][0], words[first_word + last - 1][1], types[type])
                    for first, last, type in found.row(sentence).tolist()
                ]
                sentence += 1
            yield fields, text, spans


def _worded(
    given: str | list[str], fields: dict[str, Any], word_pieces: WordPieces
) -> tuple[dict[str, Any], WordedText]:
    from launcher.worded_text import WordedText

    own = {"text": given} if isinstance(given, str) else {"tokens": given}
    return fields or own, WordedText.of(given, word_pieces, name=title_of(fields))


def _raw(items: Iterable[Item]) -> Iterator[Item]:
    """The same, if none has mentions of its own."""
    for number, item in enumerate(items, start=1):
        fields = item.fields.keys() | ({"text"} if isinstance(item.text, str) else {"tokens"})
        listed = [name for name in _LISTS if item.fields.get(name) and isinstance(item.fields[name], list)]
        if item.is_annotated or (listed and annotated_format(fields)):
            where = f"field {listed[0]!r}" if listed else "it is annotated data"
            raise UserError(
                f"text {number} gives mentions of its own ({where}), and --mentions is for texts that give none: leave "
                "--mentions out"
            )
        yield item
