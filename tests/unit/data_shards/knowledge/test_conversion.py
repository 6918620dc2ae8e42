import bz2
import gzip
import json
import os
import re
from pathlib import Path

import pytest

from data_shards.errors import UserError
from data_shards.knowledge.conversion import convert
from data_shards.knowledge.knowledge_base import KnowledgeBase
from data_shards.knowledge.sources import (
    Dbp15k,
    OpenKE,
    Source,
    Tsv,
    Wikidata5m,
    dbpedia_relation_name,
    freebase_relation_name,
)
from data_shards.knowledge.wikidata_dump import WikidataDump
from tests.unit.data_shards.knowledge.knowledge_bases import write_kb

REAL = Path(os.environ.get("SPE_DIST_REAL_DATA", "nowhere"))


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


@pytest.fixture
def openke(tmp_path: Path) -> Path:
    described = {
        "/m/1": {
            "label": "Denton", "alternatives": ["Denton, TX"], "wikidata_id": "Q1",
            "wikipedia": "https://en.wikipedia.org/wiki/Denton,_Texas",
        },
        "/m/2": {
            "label": "O'Neal", "alternatives": None, "wikidata_id": "Q2",
            "wikipedia": "https://en.wikipedia.org/wiki/O%27Neal",
        },
        "/m/3": {"label": "Dell"},
    }  # fmt: skip
    return write(
        tmp_path / "openke",
        entity2id__txt="4\r\n/m/1\t0\r\n/m/2\t1\r\n/m/3\t2\r\n/m/4\t3\r\n",
        relation2id__txt="2\n/people/person/place_of_birth\t0\n/a/b/phone_number\t1\n",
        train2id__txt="2\n1 0 0\n3 2 1\n",
        valid2id__txt="1\n2\t0\t0\n",
        entity2wikidata__json=json.dumps(described),
    )


@pytest.fixture
def dbp15k(tmp_path: Path) -> Path:
    return write(
        tmp_path / "dbp15k",
        ent_ids_2="7\thttp://dbpedia.org/resource/Denton,_Texas\n8\thttp://dbpedia.org/resource/AC/DC_(band)\n",
        rel_ids_2="5\thttp://dbpedia.org/property/birthPlace\n",
        triples_2="8\t5\t7\n8\t5\t7\n",
    )


@pytest.fixture
def wikidata5m(tmp_path: Path) -> Path:
    return write(
        tmp_path / "wikidata5m",
        entities="Q1\tDenton\tdenton tx\nQ9\tAda\n",
        relations="P19\tplace of birth\tborn in\n",
        facts="Q9\tP19\tQ1\n",
    )


def item(id: str, label: str = "", title: str = "", aliases: tuple[str, ...] = (), **claims: list[dict]) -> dict:
    return {
        "type": "item" if id[0] == "Q" else "property",
        "id": id,
        "labels": {"en": {"language": "en", "value": label}} if label else [],
        "aliases": {"en": [{"language": "en", "value": alias} for alias in aliases]} if aliases else {},
        "claims": claims,
        "sitelinks": {"enwiki": {"site": "enwiki", "title": title}} if title else {},
    }


def claim(tail: str | None, rank: str = "normal") -> dict:
    if tail is None:
        return {"mainsnak": {"snaktype": "novalue"}, "rank": rank}
    kind = {"Q": "item", "P": "property"}.get(tail[0])
    value = (
        {"value": {"entity-type": kind, "id": tail}, "type": "wikibase-entityid"}
        if kind
        else {"value": tail, "type": "string"}
    )
    return {"mainsnak": {"snaktype": "value", "datavalue": value}, "rank": rank}


ITEMS = [
    item("Q9", "Ada", "Ada Lovelace", ("Countess", "Ada"), P19=[claim("Q1"), claim("Q7"), claim("Q8", "deprecated")],
         P31=[claim(None), claim("text"), claim("P19")]),
    item("P19", "place of birth"),
    item("Q1", "Denton", "Denton, Texas", P19=[claim("Q8", "preferred")]),
    item("Q7", "without article"),
    item("Q8", "", "Eight"),
]  # fmt: skip


def write_dump(path: Path, compact: bool = True) -> Path:
    lines = [json.dumps(one, separators=(",", ":") if compact else None) for one in ITEMS]
    text = "[\n" + ",\n".join(lines) + "\n]\n"
    pack = {".gz": gzip.compress, ".bz2": bz2.compress}.get(path.suffix, bytes)
    path.write_bytes(pack(text.encode()))
    return path


def converted(
    tmp_path: Path, *sources: Source, **more: object
) -> tuple[dict, set[tuple[str, str, str]], dict[str, str]]:
    """What is written: names and titles by id, facts, names of relations."""
    out = tmp_path / "out"
    counts = convert(sources, out, **more)  # type: ignore[arg-type]
    kb = KnowledgeBase.load(out)
    entities = {id: (*kb.names[number], kb.titles.get(number)) for number, id in enumerate(kb.entity_ids)}
    facts = {
        (kb.entity_ids[head], kb.relation_ids[relation], kb.entity_ids[tail])
        for head, relation, tail in zip(kb.heads, kb.relations, kb.tails, strict=True)
    }
    assert (counts.entities, counts.triples, counts.relations) == (len(entities), len(facts), len(kb.relation_ids))
    assert counts.titles == len(kb.titles)
    assert len((out / "triples.tsv").read_text().splitlines()) == len(facts)
    return entities, facts, dict(zip(kb.relation_ids, kb.relation_names, strict=True))


def test_openke(tmp_path: Path, openke: Path) -> None:
    entities, facts, relations = converted(tmp_path, OpenKE(openke))
    assert entities == {
        "Q1": ("Denton", "Denton, TX", "Denton, Texas"), "Q2": ("O'Neal", "O'Neal"), "/m/3": ("Dell", None),
        "/m/4": ("", None),
    }  # fmt: skip
    birth, phone = "/people/person/place_of_birth", "/a/b/phone_number"
    assert facts == {("Q2", birth, "Q1"), ("/m/4", phone, "/m/3"), ("/m/3", birth, "Q1")}
    assert relations == {birth: "place of birth", phone: "phone number"}


def test_relations_are_dropped_by_id_or_name_and_entities_without_facts_with_them(tmp_path: Path, openke: Path) -> None:
    entities, facts, relations = converted(tmp_path, OpenKE(openke), drop_relations="phone_number|nothing")
    assert "/m/4" not in entities
    assert len(facts) == 2
    assert list(relations) == ["/people/person/place_of_birth"]
    assert len(converted(tmp_path, OpenKE(openke), drop_relations="place of")[1]) == 1
    with pytest.raises(UserError, match="no facts are left"):
        convert([OpenKE(openke)], tmp_path / "out", drop_relations="")
    with pytest.raises(UserError, match=re.escape("--drop-relations (: not a regular expression (")):
        convert([OpenKE(openke)], tmp_path / "out", drop_relations="(")


def test_dbp15k(tmp_path: Path, dbp15k: Path) -> None:
    entities, facts, relations = converted(tmp_path, Dbp15k(dbp15k))
    assert entities == {
        "dbr:Denton,_Texas": ("Denton, Texas", "Denton, Texas"), "dbr:AC/DC_(band)": ("AC/DC (band)", "AC/DC (band)"),
    }  # fmt: skip
    assert facts == {("dbr:AC/DC_(band)", "dbp:birthPlace", "dbr:Denton,_Texas")}
    assert relations == {"dbp:birthPlace": "birth place"}


def test_wikidata5m(tmp_path: Path, wikidata5m: Path) -> None:
    source = Wikidata5m(wikidata5m / "entities", wikidata5m / "relations", [wikidata5m / "facts"])
    entities, facts, relations = converted(tmp_path, source)
    assert entities == {"Q1": ("Denton", "denton tx", None), "Q9": ("Ada", None)}
    assert facts == {("Q9", "P19", "Q1")}
    assert relations == {"P19": "place of birth"}


@pytest.mark.parametrize("name", ["dump.json", "dump.json.gz", "dump.json.bz2"])
@pytest.mark.parametrize("compact", [True, False])
def test_wikidata_dump(tmp_path: Path, name: str, compact: bool) -> None:
    entities, facts, relations = converted(tmp_path, WikidataDump(write_dump(tmp_path / name, compact)))
    assert entities == {
        "Q9": ("Ada", "Countess", "Ada Lovelace"), "Q1": ("Denton", "Denton, Texas"), "Q8": ("Eight", "Eight"),
    }  # fmt: skip
    assert facts == {("Q9", "P19", "Q1"), ("Q1", "P19", "Q8")}
    assert relations == {"P19": "place of birth"}


def test_wikidata_items_without_article_on_demand(tmp_path: Path) -> None:
    dump = WikidataDump(write_dump(tmp_path / "dump.json"), articles_only=False)
    entities, facts, _ = converted(tmp_path, dump)
    assert entities["Q7"] == ("without article", None)
    assert ("Q9", "P19", "Q7") in facts


def test_entities_of_several_sources_are_one_by_id_or_title(
    tmp_path: Path, openke: Path, dbp15k: Path, wikidata5m: Path
) -> None:
    source = Wikidata5m(wikidata5m / "entities", wikidata5m / "relations", [wikidata5m / "facts"])
    entities, facts, _ = converted(tmp_path, OpenKE(openke), Dbp15k(dbp15k), source)
    assert entities["Q1"] == ("Denton", "Denton, TX", "denton tx", "Denton, Texas")
    assert "dbr:Denton,_Texas" not in entities
    assert facts >= {("dbr:AC/DC_(band)", "dbp:birthPlace", "Q1"), ("Q9", "P19", "Q1")}
    reverse, reverse_facts, _ = converted(tmp_path, Dbp15k(dbp15k), OpenKE(openke))
    assert reverse["dbr:Denton,_Texas"] == ("Denton", "Denton, TX", "Denton, Texas")
    assert ("Q2", "/people/person/place_of_birth", "dbr:Denton,_Texas") in reverse_facts


def test_what_was_converted_can_be_converted_again(tmp_path: Path, openke: Path, dbp15k: Path) -> None:
    convert([OpenKE(openke), Dbp15k(dbp15k)], tmp_path / "once")
    convert([Tsv(tmp_path / "once")], tmp_path / "twice")
    convert([Tsv(tmp_path / "twice"), Tsv(tmp_path / "once")], tmp_path / "twice")  # onto itself
    for name in ("names", "titles", "triples", "relations"):
        assert (tmp_path / "once" / f"{name}.tsv").read_bytes() == (tmp_path / "twice" / f"{name}.tsv").read_bytes()


def test_names_hold_no_tabs(tmp_path: Path) -> None:
    (tmp_path / "dump.json").write_text(json.dumps(item("Q1", "a\tb\nc", "A", ("d\te",), P1=[claim("Q1")])))
    entities, _, _ = converted(tmp_path, WikidataDump(tmp_path / "dump.json"))
    assert entities == {"Q1": ("a b c", "d e", "A")}


def test_a_conversion_that_fails_leaves_what_was_there(tmp_path: Path, openke: Path) -> None:
    convert([OpenKE(openke)], tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    (openke / "valid2id.txt").write_text("1\n2 0 7\n")
    with pytest.raises(UserError):
        convert([OpenKE(openke)], tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


@pytest.mark.parametrize(
    ("kind", "file", "content", "message"),
    [
        (OpenKE, "valid2id.txt", "1\n2 0 7\n", "valid2id.txt:2: relation 7 is not in relation2id.txt"),
        (OpenKE, "valid2id.txt", "1\n2 9 0\n", "valid2id.txt:2: entity 9 is not in entity2id.txt"),
        (OpenKE, "valid2id.txt", "2\n2 0 0\n", "valid2id.txt: its first line says 2 lines, but there are 1"),
        (OpenKE, "valid2id.txt", "1\n2 0\n", "valid2id.txt:2: expected 3 columns, found 2"),
        (OpenKE, "entity2id.txt", "/m/1 0\n", "entity2id.txt:1: expected the number of lines"),
        (OpenKE, "entity2wikidata.json", "[]", "entity2wikidata.json: expected an object"),
        (OpenKE, "entity2wikidata.json", "{", "entity2wikidata.json: not JSON"),
        (OpenKE, "entity2wikidata.json", '{"/m/1": {"label": 1}}', "/m/1 is not described by texts"),
        (Dbp15k, "triples_2", "8\t5\t9\n", "triples_2:1: number 9 is not in ent_ids_2"),
        (Dbp15k, "rel_ids_2", "5\tbirthPlace\n", "rel_ids_2:1: birthPlace is no address of DBpedia"),
        (Tsv, "triples.tsv", "a\tb\n", "triples.tsv:1: expected 3 columns"),
    ],
)
def test_what_is_wrong_with_a_source_is_named(
    tmp_path: Path, openke: Path, dbp15k: Path, kind: type, file: str, content: str, message: str
) -> None:
    tsv = write_kb(tmp_path / "tsv", {"a": ("A",)})
    folder = {OpenKE: openke, Dbp15k: dbp15k, Tsv: tsv}[kind]
    (folder / file).write_text(content)
    with pytest.raises(UserError, match=re.escape(message)):
        convert([kind(folder)], tmp_path / "out")
    assert not any((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "Q1", "enwiki":', "dump.json:2: invalid JSON"),
        ('["enwiki":]', "dump.json:2: invalid JSON"),
        ('{"id": 7, "enwiki": 1}', "dump.json:2: not an entity as Wikidata's dump has them"),
        ('{"id": "Q1", "sitelinks": {"enwiki": {"title": "A"}}, "claims": {"P1": [1]}}', "dump.json:2: not an entity"),
    ],
)
def test_a_line_that_is_no_entity_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "dump.json").write_text(f"[\n{line},\n]\n")
    with pytest.raises(UserError, match=re.escape(message)):
        convert([WikidataDump(tmp_path / "dump.json")], tmp_path / "out")


def test_relation_names() -> None:
    film = "/film/film/release_date_s./film/film_regional_release_date/film_release_region"
    assert freebase_relation_name(film) == "film release region"
    assert freebase_relation_name("/people/person/place_of_birth") == "place of birth"
    assert [dbpedia_relation_name(name) for name in ("birthPlace", "owners/operators", "post3preceded", "IATA")] == [
        "birth place", "owners operators", "post3preceded", "iata",
    ]  # fmt: skip


@pytest.mark.skipif(not (REAL / "kb_fb15k237").is_dir(), reason="SPE_DIST_REAL_DATA has no kb_fb15k237")
def test_real_freebase(tmp_path: Path) -> None:
    counts = convert(
        [OpenKE(REAL / "kb_fb15k237")], tmp_path, drop_relations="seasonal_months|monthly_climate|phone_number"
    )
    assert (counts.entities, counts.triples, counts.relations, counts.dropped) == (14_528, 308_510, 232, 1_603)


@pytest.mark.skipif(not (REAL / "kb_dbp15k").is_dir(), reason="SPE_DIST_REAL_DATA has no kb_dbp15k")
def test_real_dbpedia(tmp_path: Path) -> None:
    counts = convert([Dbp15k(REAL / "kb_dbp15k" / name) for name in ("fr_en", "ja_en", "zh_en")], tmp_path)
    assert (counts.entities, counts.triples, counts.repeated) == (45_051, 243_242, 304_348 - 243_242)
