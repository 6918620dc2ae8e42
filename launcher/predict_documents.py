"""`spe predict` with a model of document relations: documents that give their mentions → graphs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from data_shards.annotated.document import Document
from data_shards.annotated.read import stream_documents
from data_shards.errors import UserError
from data_shards.input.stream import STANDARD_INPUT
from data_shards.text.offset_units import OffsetUnit
from launcher.arguments import refuse
from launcher.predict_formats import graph_writer
from launcher.predict_results import as_json
from spe_dist.extraction.graphs.graph import Found, graphs_of

if TYPE_CHECKING:
    from launcher.predict import Predict
    from spe_dist.document_relations.graph import DocumentGraph

_OF_TEXTS = ("text", "input_format", "text_field", "min_entity_score", "batch_size", "max_bad_lines")
_PORTION = 256  # documents that are in memory at a time


def predict_documents(command: Predict, file: BinaryIO, count: Callable[[int], None]) -> None:
    """Write a line of JSON for each document, with title, nodes and edges, or one graph of all.

    Args:
        command: as it was typed.
        file: to write to.
        count: is told how many documents are done.

    Raises:
        UserError: an option that this task does not have; documents that cannot be read, or name no mentions.
    """
    _check_options(command)
    import torch

    from spe_dist.document_relations.folder import load_document_model
    from spe_dist.document_relations.graph import DocumentGraph
    from spe_dist.document_relations.model import predict
    from spe_dist.engine.machine import find_device

    model, word_pieces = load_document_model(command.model)
    if model.threshold is None:
        raise UserError(f"{command.model} has no threshold yet: its fine-tuning has not come to its end")
    model.threshold = max(model.threshold, command.min_relation_score)
    device = find_device(command.device)
    precision = command.precision or ("bf16" if device.type == "cuda" else "fp32")
    if device.type == "cuda" and precision == "fp32":
        raise UserError("precision must be bf16 on CUDA: its packed attention computes in half precision only")
    model = model.to(device, torch.bfloat16 if precision == "bf16" else torch.float32)
    language, has_mentions = word_pieces.language, False
    documents = _documents(command.files or (STANDARD_INPUT,), language, command.offsets)

    def graphs() -> Iterator[DocumentGraph]:
        nonlocal has_mentions
        while portion := [DocumentGraph.of(document, language=language) for document in islice(documents, _PORTION)]:
            has_mentions |= any(graph.nodes for graph in portion)
            rows = model.encode(portion, word_pieces)
            if told := rows.about_windows(model.sentence_encoder.max_pieces):
                print(told, file=sys.stderr)
            found = predict(model, rows, device)
            yield from found
            count(len(found))

    for part in _parts(command, graphs()):
        file.write(part.encode(errors="replace"))
    if not has_mentions:
        raise UserError(
            f"no document of {', '.join(command.files) or 'standard input'} gives mentions of entities, between which "
            f"{command.model} finds relations: give documents with mentions, such as DocRED's format"
        )


def _parts(command: Predict, graphs: Iterator[DocumentGraph]) -> Iterator[str]:
    """The parts of the output."""
    form = command.format or ("" if command.out is None else command.out.suffix[1:])
    if form in ("graphml", "nt"):
        return graph_writer(form)(graphs_of(map(_found_in, graphs), command.graph_nodes))
    return (as_json(graph.as_json()) + "\n" for graph in graphs)


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


def _documents(names: Sequence[str], language: str, offsets: OffsetUnit) -> Iterator[Document]:
    for name in names:
        documents, report = stream_documents(Path(name), language=language, offsets=offsets)
        yield from documents
        for line in report.lines()[1:]:
            print(f"{name}: {line.strip()}", file=sys.stderr)


def _check_options(command: Predict) -> None:
    refused = [*_OF_TEXTS, *([] if command.format in (None, "jsonl", "graphml", "nt") else ["format"])]
    refuse(
        command,
        refused,
        f"is not for {command.model}, a model of document relations: it reads documents that give their mentions, and "
        "writes JSON lines, GraphML or N-Triples",
    )
    if not 0 <= command.min_relation_score <= 1:
        raise UserError(f"--min-relation-score is {command.min_relation_score:g}: scores are from 0 to 1")
