"""Graphs against a merge by plain dictionaries, read back by programs that are not ours."""

import csv
import io
import json
import re
from collections import defaultdict
from urllib.parse import unquote

import networkx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spe_dist.extraction.graphs.graph import Found, graphs_of, normalised
from spe_dist.extraction.graphs.graphml import graphml
from spe_dist.extraction.graphs.neo4j import NODES, RELATIONSHIPS, write_neo4j
from spe_dist.extraction.graphs.ntriples import ntriples

NAMES = st.sampled_from(
    ["Ada  Byron", "ada byron", "AD\uff21", "Ada", 'say "<&>"; \\n', "\x00\x1b\ud800", "Zürich\n🎉", ""]
)
TYPES = st.sampled_from(["Person", "a;b", "<T>", "Ort é"])


@st.composite
def corpora(draw) -> list[Found]:
    texts = []
    for number in range(draw(st.integers(0, 4))):
        entities = []
        for _ in range(draw(st.integers(0, 4))):
            start = draw(st.integers(0, 50))
            mentions = [(start + shift, start + shift + 3, draw(NAMES)) for shift in range(draw(st.integers(1, 2)))]
            entities.append((draw(TYPES), mentions, draw(st.none() | st.sampled_from([0.25, 0.5, 1.0]))))
        numbers = st.integers(0, len(entities) - 1)
        relations = [
            (draw(numbers), draw(numbers), draw(TYPES), draw(st.sampled_from([0.25, 0.75])))
            for _ in range(draw(st.integers(0, 4)) if entities else 0)
        ]
        texts.append(Found(draw(st.sampled_from(["", f"doc {number};,#", "ü"])), entities, relations))
    return texts


def oracle(texts: list[Found], scope: str) -> tuple[dict, dict]:
    """Places and scores of each node and edge, by their keys."""
    nodes, edges = defaultdict(list), defaultdict(list)
    for number, found in enumerate(texts):
        name = found.name or str(number + 1)
        keys = []
        for type, mentions, score in found.entities:
            keys.append((number if scope == "text" else 0, type, normalised(mentions[0][2])))
            nodes[keys[-1]] += [((name, start, end), score) for start, end, _ in mentions]
        for head, tail, type, score in found.relations:
            ends = [found.entities[one][1][0] for one in (head, tail)]
            place = (name, min(end[0] for end in ends), max(end[1] for end in ends))
            edges[keys[head], type, keys[tail]].append((place, score))
    return nodes, edges


def told(places: list) -> tuple:
    """What a file says of a node or edge: its places, number of places, and best score."""
    scores = [score for _, score in places if score is not None]
    return sorted(place for place, _ in places), len(places), max(scores, default=None)


def parsed(places: str, separator: str) -> list:
    found = [re.fullmatch(r"(.*)#char=(\d+),(\d+)", place) for place in places.split(separator) if place]
    return sorted((unquote(one[1]), int(one[2]), int(one[3])) for one in found)


def names_of_nodes(texts: list[Found], scope: str) -> list[tuple[str, set[str]]]:
    """Type and names of each node, as XML holds them."""
    clean = {ord(one): "\ufffd" for one in "\x00\x1b\ud800"}
    names = defaultdict(set)
    for number, found in enumerate(texts):
        for type, mentions, _ in found.entities:
            key = (number if scope == "text" else 0, type, normalised(mentions[0][2]))
            names[key] |= {" ".join(name.split()).translate(clean) for *_, name in mentions}
    return [(type, own) for (_, type, _), own in names.items()]


@settings(deadline=None, max_examples=50)
@given(corpora(), st.sampled_from(["corpus", "text"]))
def test_graphml_loads_into_networkx(texts, scope):
    nodes, edges = oracle(texts, scope)
    content = "".join(graphml(graphs_of(texts, scope))).encode()
    graph = networkx.read_graphml(io.BytesIO(content), force_multigraph=True)
    assert graph.is_directed()

    def seen(values: dict) -> tuple:
        return parsed(values.get("places") or "", " "), values["count"], values.get("score")

    got = sorted(
        [(values["type"], seen(values)) for _, values in graph.nodes(data=True)], key=repr
    )  # repr: some have no score
    assert got == sorted([(type, told(places)) for (_, type, _), places in nodes.items()], key=repr)
    names = [(values["type"], (values["names"] or "").split("\n")) for _, values in graph.nodes(data=True)]
    assert [(type, set(own)) for type, own in names] == names_of_nodes(texts, scope)
    assert all((values["label"] or "") in own for (_, own), values in zip(names, graph.nodes.values(), strict=True))
    got = sorted([(values["label"], seen(values)) for _, _, values in graph.edges(data=True)], key=repr)
    assert got == sorted([(type, told(places)) for (_, type, _), places in edges.items()], key=repr)


@settings(deadline=None, max_examples=50)
@given(corpora(), st.sampled_from(["corpus", "text"]))
def test_files_for_neo4j(tmp_path_factory, texts, scope):
    nodes, edges = oracle(texts, scope)
    folder = tmp_path_factory.mktemp("neo4j")
    write_neo4j(graphs_of(texts, scope), folder)
    rows, relationships = (
        list(csv.DictReader(io.StringIO((folder / name).read_text(), newline=""))) for name in (NODES, RELATIONSHIPS)
    )
    ids = [row["id:ID"] for row in rows]
    assert len(set(ids)) == len(rows) == len(nodes)

    def seen(row: dict) -> tuple:
        return parsed(row["places:string[]"], ";"), int(row["count:int"]), float(row["score:double"] or -1)

    def expected(places: list) -> tuple:
        *rest, score = told(places)
        return (*rest, -1 if score is None else score)

    assert sorted((row[":LABEL"], seen(row)) for row in rows) == sorted(
        (type.replace(";", ","), expected(places)) for (_, type, _), places in nodes.items()
    )
    assert all(row["name"] in json.loads(row["names"]) and "\n" not in row["name"] for row in rows)
    assert {row[":START_ID"] for row in relationships} | {row[":END_ID"] for row in relationships} <= set(ids)
    assert sorted((row[":TYPE"], seen(row)) for row in relationships) == sorted(
        (type, expected(places)) for (_, type, _), places in edges.items()
    )


# The grammar of N-Triples (W3C, 2014), without language tags.
IRI = r"<(?:[^\x00-\x20<>\"{}|^`\\]|\\u[0-9A-Fa-f]{4})*>"
TERM = rf'{IRI}|_:\w+|"(?:[^"\\\n\r]|\\[tbnrf"\'\\]|\\u[0-9A-Fa-f]{{4}})*"(?:\^\^{IRI})?'
LINE = re.compile(rf"({IRI}|_:\w+) ({IRI}) ({TERM}) \.")


@settings(deadline=None, max_examples=50)
@given(corpora(), st.sampled_from(["corpus", "text"]))
def test_n_triples_keep_the_grammar_and_all_edges(texts, scope):
    nodes, edges = oracle(texts, scope)
    content = "".join(ntriples(graphs_of(texts, scope)))
    matches = [LINE.fullmatch(line) for line in content.split("\n")[:-1]]
    content.encode()  # raises where half of a pair is left
    assert all(matches)
    triples = [match.groups() for match in matches]
    rdf = "<http://www.w3.org/1999/02/22-rdf-syntax-ns#"
    entities = {subject for subject, relation, object in triples if relation == f"{rdf}type>" and ":entity:" in subject}
    assert len(entities) == len(nodes)
    statements = defaultdict(list)
    for subject, relation, object in triples:
        if subject.startswith("_:"):
            statements[subject].append((relation, object))
    assert len(statements) == len(edges)
    for parts in statements.values():
        values = dict(parts)
        edge = tuple(values[f"{rdf}{name}>"] for name in ("subject", "predicate", "object"))
        assert edge in triples and {edge[0], edge[2]} <= entities
        score = re.match(r'"([\d.]+)"', values["<urn:spe-dist:score>"])
        assert float(score[1]) in (0.25, 0.75)


QUOTED, EMOJI, ARABIC = 'Ada "the \\n"; \\', "Zür\nich 🎉", "مريم العلي"
TWO_TEXTS = [
    Found(
        'a "1"; #,',
        [("Person", [(0, 3, QUOTED), (9, 12, QUOTED)], 0.5), ("Ort\né", [(4, 8, EMOJI)], 0.25)],
        [(0, 1, 'lives\n"in", <now>', 0.75)],
    ),
    Found(
        "نص\n2",
        [("Person", [(0, 5, ARABIC)], None), ("Person", [(7, 9, QUOTED)], 1.0), ("Ort\né", [(10, 12, EMOJI)], 0.5)],
        [(0, 1, "يعرف", 0.25), (1, 2, 'lives\n"in", <now>', 0.5), (1, 1, "يعرف", 0.75)],
    ),
]
LABELS = {normalised(name): " ".join(name.split()) for name in (QUOTED, EMOJI, ARABIC)}


def edges_of_two_texts() -> list[tuple]:
    """Label of the head, type, label of the tail, number of places and best score of each edge."""
    _, edges = oracle(TWO_TEXTS, "corpus")
    return sorted((LABELS[h[2]], type, LABELS[t[2]], *told(places)[1:]) for (h, type, t), places in edges.items())


def test_n_triples_load_into_rdflib_and_are_found_by_sparql():
    rdflib = pytest.importorskip("rdflib")
    graph = rdflib.Graph().parse(data="".join(ntriples(graphs_of(TWO_TEXTS, "corpus"))), format="nt")
    rows = graph.query("""
        PREFIX own: <urn:spe-dist:>
        SELECT ?head ?type ?tail ?count ?score WHERE {
            ?subject ?type ?object ; rdfs:label ?head .
            ?object rdfs:label ?tail .
            [] rdf:subject ?subject ; rdf:predicate ?type ; rdf:object ?object ; own:count ?count ; own:score ?score .
        }""")
    found = [[value.toPython() for value in row] for row in rows]
    prefix = "urn:spe-dist:relation:"
    assert sorted((h, unquote(type.removeprefix(prefix)), *rest) for h, type, *rest in found) == edges_of_two_texts()


def test_files_for_neo4j_load_into_a_graph_database(tmp_path):
    """Which reads the CSV with a parser of its own, and refuses relationships of nodes that are not there."""
    database = pytest.importorskip("ladybug")
    write_neo4j(graphs_of(TWO_TEXTS, "corpus"), tmp_path)
    pool = {"buffer_pool_size": 64 * 2**20, "max_num_threads": 1}
    with database.Database(":memory:", **pool) as opened, database.Connection(opened) as graph:
        seen = "count INT64, score DOUBLE, places STRING"
        graph.execute(f"CREATE NODE TABLE Node(id STRING PRIMARY KEY, name STRING, type STRING, names STRING, {seen})")
        graph.execute(f"CREATE REL TABLE Relationship(FROM Node TO Node, type STRING, {seen})")
        for table, file in (("Node", NODES), ("Relationship", RELATIONSHIPS)):
            how = "header=true, escape='\"', parallel=false, auto_detect=false"  # parallel: no line ends in values
            graph.execute(f"COPY {table} FROM '{tmp_path / file}' ({how})")
        values = "h.name, r.type, t.name, r.count, r.score"
        rows = graph.execute(f"MATCH (h:Node)-[r:Relationship]->(t:Node) RETURN {values}").get_all()
        assert sorted(map(tuple, rows)) == edges_of_two_texts()
        rows = graph.execute("MATCH (n:Node) RETURN n.type, n.names, n.places, n.count, n.score").get_all()
    nodes, _ = oracle(TWO_TEXTS, "corpus")
    found = {(type, json.loads(names)[0]): (parsed(places, ";"), *rest) for type, names, places, *rest in rows}
    assert found == {(type, LABELS[name]): told(places) for (_, type, name), places in nodes.items()}
