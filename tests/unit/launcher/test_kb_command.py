import json
import re
from pathlib import Path

import pytest

from data_shards.errors import UserError
from data_shards.knowledge.knowledge_base import KnowledgeBase
from launcher.cli import dispatch
from tests.unit.data_shards.knowledge.knowledge_bases import write_kb


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def facts(folder: Path) -> set[tuple[str, str, str]]:
    kb = KnowledgeBase.load(folder)
    return {
        (kb.entity_ids[head], kb.relation_names[relation], kb.entity_ids[tail])
        for head, relation, tail in zip(kb.heads, kb.relations, kb.tails, strict=True)
    }


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """One source of each format, each recognised by its files."""
    dbp15k = {
        "ent_ids_2": "1\thttp://dbpedia.org/resource/Kent\n", "rel_ids_2": "1\thttp://dbpedia.org/property/nearTo\n",
        "triples_2": "1\t1\t1\n",
    }  # fmt: skip
    write(tmp_path, {f"dbp15k/{part}/{name}": content for part in ("a", "b") for name, content in dbp15k.items()})
    openke = {"entity2id.txt": "1\n/m/1 0\n", "relation2id.txt": "1\n/x/part_of 0\n", "train2id.txt": "1\n0 0 0\n"}
    write(tmp_path / "openke", openke)
    wikidata5m = {
        "wikidata5m_entity.txt": "Q1\tAda\n", "wikidata5m_relation.txt": "P7\tbrother\tmale sibling\n",
        "wikidata5m_inductive_valid.txt": "Q1\tP7\tQ2\n", "wikidata5m_transductive_train.txt": "Q1\tP7\tQ1\n",
    }  # fmt: skip
    write(tmp_path / "wikidata5m", wikidata5m)
    write_kb(tmp_path / "tsv", {"Q5": ("Eve",)}, [("Q5", "P7", "Q5")])
    item = {
        "id": "Q8",
        "labels": {},
        "claims": {"P1": [{"mainsnak": {}, "rank": "normal"}]},
        "sitelinks": {"enwiki": {}},
    }
    write(tmp_path, {"dump.json": f"[\n{json.dumps(item)}\n]\n"})
    return tmp_path


def test_formats_are_recognised_and_put_together(sources: Path, capsys: pytest.CaptureFixture) -> None:
    names = ("dbp15k", "openke", "wikidata5m", "tsv", "dump.json")
    dispatch(["kb", "convert", *(str(sources / name) for name in names), "--out", str(sources / "out")])
    assert facts(sources / "out") == {
        ("dbr:Kent", "near to", "dbr:Kent"), ("/m/1", "part of", "/m/1"), ("Q1", "brother", "Q1"),
        ("Q1", "brother", "Q2"), ("Q5", "brother", "Q5"),
    }  # fmt: skip
    printed = capsys.readouterr().out
    assert f"{sources / 'out'}: 5 entities, 3 names, 5 facts, 3 relations" in printed
    assert "1 with the title of an article, 2 without any name; merged 1 time" in printed
    assert "left out: 1 repeated, 0 of relations that were dropped" in printed


def test_files_of_other_names_are_named(sources: Path) -> None:
    folder = sources / "wikidata5m"
    for old, new in (("entity", "names"), ("relation", "properties"), ("transductive_train", "facts")):
        (folder / f"wikidata5m_{old}.txt").rename(folder / new)
    options = ["--entities-file", "names", "--relations-file", "properties", "--triples-files", "facts"]
    out = ["--out", str(sources / "out")]
    dispatch(["kb", "convert", str(folder), "--format", "wikidata5m", *options, *out])
    assert facts(sources / "out") == {("Q1", "brother", "Q1")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "spe kb needs a subcommand: spe kb convert"),
        (["convert", "--out", "out"], "no source: name a knowledge base"),
        (["convert", "nowhere", "--out", "out"], "nowhere: no such file or folder"),
        (["convert", "{empty}", "--out", "out"], "is no known knowledge base: none of names.tsv, entity2id.txt"),
        (["convert", "{empty}", "--format", "openke", "--out", "out"], "entity2id.txt: no such file"),
        (["convert", "{empty}", "--format", "wikidata5m", "--out", "out"], "wikidata5m_entity.txt: no such file"),
    ],
)
def test_wrong_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=re.escape(message)):
        dispatch(["kb", *(one.format(empty=tmp_path / "empty") for one in arguments)])
