"""Graphs as RDF N-Triples.

<urn:spe-dist:entity:Person/ada%20byron>   rdf:type <urn:spe-dist:type:Person>, rdfs:label "Ada Byron",
<urn:spe-dist:place> <urn:spe-dist:text:notes#char=0,9>
… <urn:spe-dist:relation:lives%20in> …     and of each relation an rdf:Statement with its score, count and places
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from spe_dist.extraction.graphs.graph import Edge, Graph, Node, encoded

_OWN = "urn:spe-dist:"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_LABEL = "<http://www.w3.org/2000/01/rdf-schema#label>"
_XSD = "http://www.w3.org/2001/XMLSchema#"


def ntriples(graphs: Iterable[Graph]) -> Iterator[str]:
    """The lines of a file."""
    number = 0
    for graph in graphs:
        for node in graph.nodes:
            subject = _own("entity", node.key)
            yield _line(subject, f"<{_RDF}type>", _own("type", encoded(node.type)))
            yield from (_line(subject, _LABEL, _literal(name)) for name in node.names)
            yield from _seen(subject, graph, node)
        for edge in graph.edges:
            head, tail = _own("entity", edge.head.key), _own("entity", edge.tail.key)
            relation, statement = _own("relation", encoded(edge.type)), f"_:r{number}"
            yield _line(head, relation, tail)
            yield _line(statement, f"<{_RDF}type>", f"<{_RDF}Statement>")
            for name, value in (("subject", head), ("predicate", relation), ("object", tail)):
                yield _line(statement, f"<{_RDF}{name}>", value)
            yield from _seen(statement, graph, edge)
            number += 1


def _seen(subject: str, graph: Graph, seen: Node | Edge) -> Iterator[str]:
    yield _line(subject, _own("count"), f'"{seen.count}"^^<{_XSD}integer>')
    if seen.score is not None:
        yield _line(subject, _own("score"), f'"{seen.score:.4f}"^^<{_XSD}double>')
    yield from (_line(subject, _own("place"), _own("text", place)) for place in graph.places(seen))


def _own(*parts: str) -> str:
    """An IRI of ours; parts are percent-encoded already."""
    return f"<{_OWN}{':'.join(parts)}>"


def _literal(text: str) -> str:
    """A string: N-Triples escapes as JSON does, and both hold all other characters as they are."""
    return json.dumps(text.encode(errors="replace").decode(), ensure_ascii=False)


def _line(subject: str, predicate: str, object: str) -> str:
    return f"{subject} {predicate} {object} .\n"
