import json
from dataclasses import replace
from pathlib import Path

import pytest

from data_shards.errors import UserError
from data_shards.shards import manifest
from data_shards.shards.manifest import Manifest, Shard, Statistics, TokenizerInfo
from data_shards.tokenizer.files import SpecialIds


def example() -> Manifest:
    shards = tuple(Shard(f"00-{i:06}.tar", 1, 100, 10, 20, 30, str(i) * 64) for i in range(3))
    tokenizer = TokenizerInfo("tokenizer", {"tokenizer.json": "f" * 64}, "a" * 64, 100, True, SpecialIds(1, 2, 3, 4, 5))
    return Manifest(
        "example", shards, ("pieces", "words"), 2048, 128, tokenizer, {"language": "en"}, Statistics(1, 2, 3)
    )


def test_survives_a_round_trip(tmp_path: Path) -> None:
    example().save(tmp_path)
    assert manifest.load(tmp_path) == example()
    assert example().shard_records == (10, 10, 10)


def test_keys_are_those_of_the_wids_index(tmp_path: Path) -> None:
    document = json.loads(example().to_json())
    assert document["__kind__"] == "wids-shard-index-v1"
    assert document["wids_version"] == 1
    assert {"url", "nsamples", "filesize"} <= document["shardlist"][0].keys()


def test_fingerprint_follows_the_data_and_nothing_else() -> None:
    base = example()
    assert replace(base, name="other", build={}, statistics=Statistics()).fingerprint == base.fingerprint
    assert replace(base, shardlist=base.shardlist[::-1]).fingerprint != base.fingerprint
    other_tokenizer = replace(base.tokenizer, fingerprint="b" * 64)
    assert replace(base, tokenizer=other_tokenizer).fingerprint != base.fingerprint
    one, other = (replace(base, entity_types=types) for types in ({"A": 1, "B": 1}, {"B": 1, "A": 1}))
    assert len({base.fingerprint, one.fingerprint, other.fingerprint}) == 3
    assert replace(one, entity_types={"A": 7, "B": 8}).fingerprint == one.fingerprint


def test_the_language_is_that_of_the_build_also_of_annotated_shards() -> None:
    german = {"language": "de"}
    assert replace(example(), build=german).language == "de"
    assert (
        replace(example(), build={"entities": {}, "annotated": {"fingerprint": "", "build": german}}).language == "de"
    )


def test_datasets_without_entities_say_how_to_add_them() -> None:
    with pytest.raises(UserError, match=r"data/x has no entities: .*spe shards annotate data/x --out DIR --ner"):
        example().require_entities("data/x")
    layers = ("pieces", "words", "entities")
    found = manifest.parse(replace(example(), layers=layers, entity_types={"B": 1, "A": 2}).to_json().encode(), "m")
    assert found.require_entities("data/x") == ("B", "A")


def test_manifests_of_before_there_were_entities_are_read() -> None:
    document = json.loads(example().to_json())
    del document["entity_types"], document["statistics"]["entities"], document["statistics"]["entity_changes"]
    for shard in document["shardlist"]:
        del shard["entities"]
    assert manifest.parse(json.dumps(document).encode(), "m") == example()


def test_statistics_add_up() -> None:
    total = Statistics(1, 2, 3, dropped={"a": 1}) + Statistics(10, 20, 30, bad_lines=4, dropped={"a": 2, "b": 5})
    assert total == Statistics(11, 22, 33, dropped={"a": 3, "b": 5}, bad_lines=4)
    one = Statistics(entities=2, entity_changes={"widened": 1})
    assert one + one == Statistics(entities=4, entity_changes={"widened": 2})


@pytest.mark.parametrize("url", ["../evil.tar", "/etc/passwd", "a/b.tar", "pipe:ls", "", ".hidden", "a b.tar"])
def test_shards_outside_the_folder_are_refused(url: str) -> None:
    document = json.loads(example().to_json())
    document["shardlist"][1]["url"] = url
    with pytest.raises(UserError, match="not a plain file name"):
        manifest.parse(json.dumps(document).encode(), "m")
    document = json.loads(example().to_json())
    document["tokenizer"]["folder"] = url
    with pytest.raises(UserError, match="not a plain file name"):
        manifest.parse(json.dumps(document).encode(), "m")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"__kind__": "other"}, "not an index of shards"),
        ({"schema_version": 99}, "newer than this program reads"),
        ({"schema_version": 0}, "too old"),
        ({"schema_version": None}, "no schema_version"),
        ({"block_records": "many"}, "malformed at block_records"),
        ({"shardlist": [{"url": "a.tar"}]}, r"malformed at shardlist\.0"),
        ({"statistics": None}, "malformed at statistics"),
    ],
)
def test_manifests_that_are_none_are_refused(change: dict[str, object], message: str) -> None:
    document = json.loads(example().to_json()) | change
    with pytest.raises(UserError, match=message):
        manifest.parse(json.dumps(document).encode(), "m")


def test_places_without_a_dataset_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="spe shards build"):
        manifest.load(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        manifest.load(tmp_path / "missing")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        manifest.load(tmp_path)
    with pytest.raises(UserError, match="run commands"):
        manifest.load("pipe:touch /tmp/owned")
