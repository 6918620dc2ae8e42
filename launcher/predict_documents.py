"""`spe predict` with a model of document relations: documents that give their mentions, or raw texts → graphs."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from data_shards.annotated.read import stream_documents
from data_shards.errors import NotAnnotatedError, UserError
from data_shards.input.stream import STANDARD_INPUT
from launcher.arguments import refuse
from launcher.found_mentions import MarkedText, check_settings, marked_texts
from launcher.predict_corpus.bad_lines import BadLines
from launcher.predict_corpus.counts import Counts, speed_text
from launcher.predict_corpus.progress import Progress
from launcher.predict_formats import graph_writer
from launcher.predict_input import Item
from launcher.predict_results import as_json
from spe_dist.extraction.graphs.graph import Found, graphs_of

if TYPE_CHECKING:
    import torch

    from data_shards.text.word_pieces import WordPieces
    from launcher.predict import Predict
    from spe_dist.document_relations.graph import DocumentGraph
    from spe_dist.document_relations.model import DocumentModel

_OF_TEXTS = ("text", "input_format", "text_field", "min_entity_score", "batch_size", "max_bad_lines")
_PORTION = 256  # documents that are in memory at a time


class RawTexts(NamedTuple):
    """What is read with --mentions.

    Args:
        items: the texts.
        bad_lines: bad lines of the files that they come from.
    """

    items: Iterator[Item]
    bad_lines: BadLines


def predict_documents(command: Predict, file: BinaryIO, raw: RawTexts | None, progress: Progress) -> list[str]:
    """Write a line of JSON for each document, with title, nodes and edges, or one graph of all.

    Args:
        command: as it was typed.
        file: to write to.
        raw: texts in which --mentions finds entities; None: the files name them.
        progress: is told how many documents are done.

    Returns:
        What came out, for people, if there were raw texts.

    Raises:
        UserError: an option that this task does not have; documents that cannot be read, or name no mentions.
    """
    _check_options(command)
    from launcher.worded_text import told

    model, word_pieces, device = _load(command)
    changes, counts, began = Counter[str](), Counts(), time.monotonic()
    if raw is None:
        texts = _given(command, word_pieces.language)
    else:
        texts = marked_texts(command, raw.items, word_pieces, changes)
    progress.begin("predicting")
    has_mentions = False

    def graphs() -> Iterator[tuple[DocumentGraph, dict[str, Any]]]:
        nonlocal has_mentions
        while portion := list(islice(texts, _PORTION)):
            for text, graph in zip(portion, _predicted(model, word_pieces, portion, device), strict=True):
                has_mentions |= bool(graph.nodes)
                counts.add_types(text.sentences, (one.type for one in graph.nodes), (one.type for one in graph.edges))
                yield graph, text.fields
            progress.add(len(portion))

    for part in _parts(command, graphs()):
        file.write(part.encode(errors="replace"))
    if raw is None:
        if not has_mentions:
            raise UserError(
                _without_mentions(command, f"no document of {', '.join(command.files) or 'standard input'}")
            )
        return []
    if changed := told(changes):
        print(f"mentions that {command.mentions} finds: {changed}", file=sys.stderr)
    return counts.lines(raw.bad_lines, speed_text(counts, time.monotonic() - began))


def _load(command: Predict) -> tuple[DocumentModel, WordPieces, torch.device]:
    """The model, ready to predict on a device."""
    import torch

    from spe_dist.document_relations.folder import load_document_model
    from spe_dist.engine.machine import find_device

    model, word_pieces = load_document_model(command.model)
    if model.threshold is None:
        raise UserError(f"{command.model} has no threshold yet, as its fine-tuning has not finished: start it again")
    model.threshold = max(model.threshold, command.min_relation_score)
    device = find_device(command.device)
    precision = command.precision or ("bf16" if device.type == "cuda" else "fp32")
    if device.type == "cuda" and precision == "fp32":
        raise UserError("precision must be bf16 on CUDA: its packed attention computes in half precision only")
    return model.to(device, torch.bfloat16 if precision == "bf16" else torch.float32), word_pieces, device


def _predicted(
    model: DocumentModel, word_pieces: WordPieces, texts: Sequence[MarkedText], device: torch.device
) -> Iterator[DocumentGraph]:
    """The graphs of some documents; those without two entities have no pair that the model could read."""
    from spe_dist.document_relations.graph import DocumentGraph
    from spe_dist.document_relations.model import predict

    graphs = [DocumentGraph.of(text.document, language=word_pieces.language) for text in texts]
    readable = [number for number, graph in enumerate(graphs) if len(graph.nodes) > 1]
    rows = model.encode([graphs[number] for number in readable], word_pieces)
    if told := rows.about_windows(model.sentence_encoder.max_pieces):
        print(told, file=sys.stderr)
    found = dict(zip(readable, predict(model, rows, device), strict=True))
    return (found.get(number, replace(graph, edges=())) for number, graph in enumerate(graphs))


def _parts(command: Predict, found: Iterator[tuple[DocumentGraph, dict[str, Any]]]) -> Iterator[str]:
    """The parts of the output."""
    form = command.format or ("" if command.out is None else command.out.suffix[1:])
    if form in ("graphml", "nt"):
        return graph_writer(form)(graphs_of((_found_in(graph) for graph, _ in found), command.graph_nodes))
    return (as_json(fields | graph.as_json()) + "\n" for graph, fields in found)


def _found_in(graph: DocumentGraph) -> Found:
    """A document as graphs of many texts take it; its entities have no scores, as the file gives them."""
    document = graph.document
    assert document is not None  # it is a prediction
    mentions: list[list[tuple[int, int, str]]] = [[] for _ in graph.nodes]
    for mention, (start, end) in zip(document.mentions, document.characters(), strict=True):
        mentions[mention.entity].append((start, end, mention.name or document.text[start:end]))
    entities: list[tuple[str, list[tuple[int, int, str]], float | None]] = [
        (node.type, places, None) for node, places in zip(graph.nodes, mentions, strict=True)
    ]
    edges = [(edge.head, edge.tail, edge.type, edge.score or 0.0) for edge in graph.edges]
    return Found(graph.title, entities, edges)


def _given(command: Predict, language: str) -> Iterator[MarkedText]:
    """The documents of files that give their mentions."""
    for name in command.files or (STANDARD_INPUT,):
        try:
            documents, report = stream_documents(Path(name), language=language, offsets=command.offsets)
        except NotAnnotatedError as error:
            raise UserError(
                _without_mentions(command, f"nothing in {'standard input' if name == STANDARD_INPUT else name}")
            ) from error
        yield from (MarkedText(document, 0, {}) for document in documents)
        for line in report.lines()[1:]:
            print(f"{name}: {line.strip()}", file=sys.stderr)


def _without_mentions(command: Predict, what: str) -> str:
    return (
        f"{what} gives mentions of entities, between which {command.model} finds relations: give documents with "
        "mentions, such as DocRED's format, or name with --mentions what finds them in raw text: an extractor or a "
        "pipeline of spaCy"
    )


def _check_options(command: Predict) -> None:
    if command.mentions is None:
        refuse(
            command,
            _OF_TEXTS,
            f"is for raw text, in which --mentions EXTRACTOR finds entities: without that, {command.model}, a model of "
            "document relations, reads documents that give their mentions",
        )
    else:
        check_settings(command)
    if command.format not in (None, "jsonl", "graphml", "nt"):
        raise UserError(
            f"--format {command.format} is not for {command.model}, a model of document relations: it writes JSON "
            "lines, GraphML or N-Triples"
        )
    if not 0 <= command.min_relation_score <= 1:
        raise UserError(f"--min-relation-score is {command.min_relation_score:g}: scores are from 0 to 1")
