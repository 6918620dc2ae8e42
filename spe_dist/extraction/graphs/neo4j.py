"""Graphs as the two files that `neo4j-admin database import` reads: nodes.csv and relationships.csv."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path

from spe_dist.extraction.graphs.graph import Edge, Graph, Node

NODES, RELATIONSHIPS = "nodes.csv", "relationships.csv"
_SEEN = ("count:int", "score:double", "places:string[]")
_NODES = ("id:ID", "name", ":LABEL", "names", *_SEEN)  # names: a list in JSON, as `;` cannot be quoted in `string[]`
_RELATIONSHIPS = (":START_ID", ":END_ID", ":TYPE", *_SEEN)


def write_neo4j(graphs: Iterable[Graph], folder: Path) -> None:
    """Write both files into a folder; a `;` in an entity type, which would begin another label, becomes a comma."""
    with (
        (folder / NODES).open("w", encoding="utf-8", errors="replace", newline="") as nodes_file,
        (folder / RELATIONSHIPS).open("w", encoding="utf-8", errors="replace", newline="") as edges_file,
    ):
        nodes, edges = (csv.writer(file, lineterminator="\n") for file in (nodes_file, edges_file))
        nodes.writerow(_NODES)
        edges.writerow(_RELATIONSHIPS)
        for graph in graphs:
            for node in graph.nodes:
                names = json.dumps(list(node.names), ensure_ascii=False)
                nodes.writerow((node.key, node.name, node.type.replace(";", ","), names, *_seen(graph, node)))
            for edge in graph.edges:
                edges.writerow((edge.head.key, edge.tail.key, edge.type, *_seen(graph, edge)))


def _seen(graph: Graph, seen: Node | Edge) -> tuple[int, str, str]:
    score = "" if seen.score is None else f"{seen.score:.4f}"
    return seen.count, score, ";".join(graph.places(seen))
