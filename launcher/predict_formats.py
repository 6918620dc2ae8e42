"""What `spe predict` writes for other programs: annotation tools and graphs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_shards.annotated import brat, label_studio
from data_shards.annotated.document import Document, Mention
from data_shards.errors import UserError
from data_shards.files import is_new, require_name, written_folder
from launcher.predict_results import Result, as_json
from spe_dist.extraction.graphs.graph import Found, Graph, Scope, graphs_of
from spe_dist.extraction.graphs.graphml import graphml
from spe_dist.extraction.graphs.neo4j import write_neo4j
from spe_dist.extraction.graphs.ntriples import ntriples

if TYPE_CHECKING:
    from spe_dist.extraction.predict.extracted_text import ExtractedText

FOLDERS = ("neo4j", "brat")
"""Formats that are a folder."""
_ANNOTATION = ("tokens", "entities", "relations", "spans", "label", "annotations", "predictions")


def file_writer(form: str, model: Path, nodes: Scope) -> Callable[[object, Iterator[Result]], Iterator[str]]:
    """What turns results into the parts of a file.

    Args:
        form: label_studio, graphml or nt.
        model: that made them.
        nodes: of a graph: what a node is one of.
    """
    if form == "label_studio":
        return lambda _, results: label_studio_tasks(results, version_of(model))
    return lambda _, results: graph_writer(form)(graphs_of(found_in(results), nodes))


def graph_writer(form: str) -> Callable[[Iterable[Graph]], Iterator[str]]:
    """What turns graphs into the parts of a file, graphml or nt."""
    return {"graphml": graphml, "nt": ntriples}[form]


def check_folder(form: str | None, out: Path | None) -> None:
    """Refuse an output that is no new or empty folder."""
    if out is None:
        raise UserError(f"--format {form} is a folder: name it with --out")
    require_name(out)
    if not is_new(out):
        raise UserError(f"--out {out} is there already, and --format {form} needs a new or empty folder: name another")


def write_folder(form: str | None, results: Iterator[Result], out: Path, nodes: Scope) -> None:
    """Write a graph for Neo4j, or texts and annotations for brat."""
    findings: Counter[str] = Counter()
    with written_folder(out) as folder:
        if form == "neo4j":
            write_neo4j(graphs_of(found_in(results), nodes), folder)
            return
        for name, content in brat.files_of(map(_brat_text, _named(results)), findings):
            (folder / name).write_bytes(content.encode(errors="replace"))
    for what, count in findings.items():
        print(f"{out}: {count:,} {what}", file=sys.stderr)


def title_of(fields: dict[str, Any]) -> str:
    """What an object of the input calls its text; empty if it does not."""
    return next((str(fields[name]) for name in ("title", "id") if fields.get(name) not in (None, "")), "")


def found_in(results: Iterable[Result]) -> Iterator[Found]:
    """Results as graphs take them."""
    return (Found.of(name, extracted) for name, extracted in _named(results))


def _named(results: Iterable[Result]) -> Iterator[tuple[str, ExtractedText]]:
    for number, (fields, extracted) in enumerate(results, start=1):
        yield title_of(fields) or str(number), extracted


def _brat_text(named: tuple[str, ExtractedText]) -> brat.BratText:
    """An extracted text in brat's format, with the scores as notes."""
    name, extracted = named
    mentions = tuple(Mention(one.start, one.end, one.type, number) for number, one in enumerate(extracted.entities))
    notes = {f"T{number}": f"score {one.score:.4f}" for number, one in enumerate(extracted.entities, start=1)}
    notes |= {f"R{number}": f"score {one.score:.4f}" for number, one in enumerate(extracted.relations, start=1)}
    relations = [(one.head, one.tail, one.type) for one in extracted.relations]
    return brat.BratText(Document(extracted.text, mentions, name=name), relations, notes)


def label_studio_tasks(results: Iterable[Result], version: str) -> Iterator[str]:
    """A list of tasks with predictions, as Label Studio imports them; fields of the input are kept in `data`."""
    before = "[\n"
    for fields, extracted in results:
        if isinstance(fields.get("data"), dict):
            kept = fields["data"]
        else:  # annotation is lists; what else has such a name is the user's own, as a label of the whole text
            kept = {k: v for k, v in fields.items() if not (k in _ANNOTATION and isinstance(v, list))}
        task = {"data": kept | {label_studio.TEXT: extracted.text}, "predictions": [prediction(extracted, version)]}
        yield f"{before}{as_json(task)}"
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def prediction(extracted: ExtractedText, version: str) -> dict[str, Any]:
    """What is found in a text as a prediction of Label Studio; its score is the lowest of those in it."""
    entities = [(one.start, one.end, one.type, one.score) for one in extracted.entities]
    relations = [(one.head, one.tail, one.type, one.score) for one in extracted.relations]
    scores = [score for *_, score in (*entities, *relations)]
    lowest = {"score": round(min(scores), 4)} if scores else {}
    return {"model_version": version} | lowest | {"result": label_studio.results(extracted.text, entities, relations)}


def version_of(model: Path) -> str:
    """What a model is called: its run and seed, or its folder."""
    parts = model.resolve().parts
    return "/".join(parts[-3:-1]) if parts[-1] == "model" else parts[-1]
