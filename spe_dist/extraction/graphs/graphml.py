"""Graphs as GraphML, which networkx, Gephi, Cytoscape, igraph and yEd read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from xml.etree.ElementTree import Element, SubElement, tostring

from spe_dist.extraction.graphs.graph import Edge, Graph, Node

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # characters that XML 1.0 cannot hold
_NODE = {"label": "string", "type": "string", "names": "string"}
_BOTH = {"count": "int", "score": "double", "places": "string"}
_KEYS = {"node": _NODE | _BOTH, "edge": {"label": "string"} | _BOTH}
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<graphml xmlns="http://graphml.graphdrawing.org/xmlns">\n'


def graphml(graphs: Iterable[Graph]) -> Iterator[str]:
    """The parts of a file, with all graphs as one: directed, possibly with several edges between two nodes.

    A node has `label` (its name), `type`, `names` (all its names, one a line), an edge has `label` (its type). Both
    have `count`, `score` (the best one) and `places` with spaces between them.
    """
    yield _HEAD
    for what, keys in _KEYS.items():
        for name, kind in keys.items():
            attributes = {"id": f"{what}-{name}", "for": what, "attr.name": name, "attr.type": kind}
            yield _text_of(Element("key", attributes))
    yield '<graph edgedefault="directed">\n'
    for graph in graphs:
        for node in graph.nodes:
            element = Element("node", {"id": f"n{node.number}"})
            _add(element, "node", {"label": node.name, "type": node.type, "names": "\n".join(node.names)})
            yield _finished(element, "node", graph, node)
        for edge in graph.edges:
            element = Element("edge", {"source": f"n{edge.head.number}", "target": f"n{edge.tail.number}"})
            _add(element, "edge", {"label": edge.type})
            yield _finished(element, "edge", graph, edge)
    yield "</graph>\n</graphml>\n"


def _finished(element: Element, what: str, graph: Graph, seen: Node | Edge) -> str:
    _add(element, what, {"count": str(seen.count)})
    if seen.score is not None:
        _add(element, what, {"score": f"{seen.score:.4f}"})
    _add(element, what, {"places": " ".join(graph.places(seen))})
    return _text_of(element)


def _add(element: Element, what: str, values: dict[str, str]) -> None:
    for name, value in values.items():
        SubElement(element, "data", {"key": f"{what}-{name}"}).text = _NO_XML.sub("\ufffd", value)


def _text_of(element: Element) -> str:
    return tostring(element, encoding="unicode") + "\n"
