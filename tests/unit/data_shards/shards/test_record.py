"""A record as layers, also with one that this program does not have."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from data_shards.pipeline.finished_unit import MARKER_FOLDER, ShardFormat, UnitContent, finish_unit
from data_shards.ragged import Ragged
from data_shards.shards.manifest import Manifest, Statistics, layer_sizes, load
from data_shards.shards.reader import ShardReader, verify
from data_shards.shards.record import LAYERS, Layer, Records, block_members, records_from_members
from data_shards.shards.record_words import RecordWords
from launcher.shards import layer_lines
from spe_dist.recipe import load_recipe
from spe_dist.train.rehearsal import largest_records
from tests.unit.spe_dist.tiny_run import ROOT, write_dataset

FACTS = Layer(
    "facts",
    "fact_offsets",
    dtype=lambda *_: np.uint32,
    largest=lambda word_lengths: np.zeros((len(word_lengths), 2), dtype=np.int64),
    columns=2,
)


def with_facts(folder: Path) -> tuple[Manifest, Records]:
    """A dataset in FOLDER with entities and two facts about each second record."""
    write_dataset(folder / "plain", 40, entities=True)
    plain = ShardReader(folder / "plain")
    records = plain.take(np.arange(len(plain)))
    counts = np.tile([2, 0], len(records))[: len(records)]
    values = np.arange(2 * counts.sum(), dtype=np.int64).reshape(-1, 2)
    records = records.with_layer("facts", Ragged.from_lengths(values, counts))
    (folder / "facts" / MARKER_FOLDER).mkdir(parents=True)
    (folder / "plain" / "tokenizer").rename(folder / "facts" / "tokenizer")
    statistics = Statistics(records=len(records), **layer_sizes(records))
    unit, _ = finish_unit(
        folder / "facts",
        "00-000000",
        (0, 0),
        "",
        lambda: UnitContent(records, statistics, types=5),
        lambda: ShardFormat(16, 64, 1500),
    )
    assert unit.shard is not None
    layers = (*plain.manifest.layers, "facts")
    manifest = replace(plain.manifest, shardlist=(unit.shard,), layers=layers, statistics=statistics)
    manifest.save(folder / "facts")
    return manifest, records


def test_a_further_layer_needs_a_line_in_the_table_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LAYERS, "facts", FACTS)
    manifest, records = with_facts(tmp_path)
    assert load(tmp_path / "facts") == manifest
    assert verify(tmp_path / "facts") == []
    reader = ShardReader(tmp_path / "facts")
    rows = np.array([4, 1, 0, 30])
    taken = reader.take(rows)
    for name, layer in taken.layers.items():
        assert np.array_equal(layer.values, records.layers[name].take(rows).values)
        assert np.array_equal(layer.lengths, records.layers[name].lengths[rows])
    assert reader.take([]).layers["facts"].values.shape == (0, 2)
    assert "facts" not in Records.concat([taken, Records(taken.pieces, taken.word_starts)]).layers
    assert largest_records(8, manifest).layers["facts"].values.shape[1] == 2
    words = RecordWords(Tokenizer.from_file(str(reader.tokenizer_folder() / "tokenizer.json")))
    assert "  facts    [[0, 1], [2, 3]]" in list(layer_lines(records, words, tuple(manifest.entity_types)))
    size = int(manifest.shardlist[0].further["facts"])
    replace(manifest, shardlist=(replace(manifest.shardlist[0], further={"facts": 7}),)).save(tmp_path / "facts")
    assert verify(tmp_path / "facts") == [f"00-000000.tar: {size} facts, the manifest says 7"]


def test_methods_read_shards_with_more_layers_than_they_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENPAR draws the same from a dataset with facts, whether this program knows what facts are or not."""
    from spe_dist.methods.enpar.collate import build_collate

    with monkeypatch.context() as patch:
        patch.setitem(LAYERS, "facts", FACTS)
        _, records = with_facts(tmp_path)
        known = ShardReader(tmp_path / "facts").take(np.arange(16))
    reader = ShardReader(tmp_path / "facts")
    unknown = reader.take(np.arange(16))
    assert "facts" in known.layers and "facts" not in unknown.layers
    assert verify(tmp_path / "facts") == []
    recipe = load_recipe(ROOT / "launcher" / "recipes" / "enpar_debug.yaml")
    collate = replace(build_collate(recipe, reader), lane_size=8)
    without = Records(records.pieces, records.word_starts, entities=records.entities).take(np.arange(16))
    ids = np.arange(16).reshape(2, 8)
    drawn = [collate(given, ids, 3, [0, 1]).packed.piece_ids for given in (known, unknown, without)]
    assert drawn[0].equal(drawn[1]) and drawn[0].equal(drawn[2])


def test_arrays_that_do_not_fit_are_refused() -> None:
    rows = Ragged.from_lengths(np.zeros((3, 3), dtype=np.uint16), np.array([1, 2]))
    text = Ragged.from_lengths(np.arange(3), np.array([2, 1]))
    members = block_members(Records(text, text, entities=rows), vocab_size=9, max_pieces=9)
    layers = ("pieces", "words", "entities")
    assert records_from_members(members, layers).entities.values.shape == (3, 3)
    assert list(records_from_members(members).layers) == ["pieces", "words"]
    other = block_members(Records(*[Ragged.from_lengths(np.arange(3), np.array([3]))] * 2), vocab_size=9, max_pieces=9)
    for damage in ({"entities.npy": members["pieces.npy"]}, {"pieces.npy": members["entities.npy"]}, other):
        with pytest.raises(ValueError, match="do not fit together"):
            records_from_members(members | damage, layers)
    del members["entity_offsets.npy"]
    with pytest.raises(ValueError, match=r"block without entity_offsets\.npy"):
        records_from_members(members, layers)


def test_the_geometry_of_words() -> None:
    """Two records: words of 2 and 1 pieces, and one of 3."""
    records = Records(
        Ragged.from_lengths(np.arange(6), np.array([3, 3])), Ragged.from_lengths(np.array([0, 2, 0]), np.array([2, 1]))
    )
    assert records.word_bounds.tolist() == [0, 2, 3, 6]
    assert records.first_pieces.tolist() == [0, 2, 3]
    assert records.pieces_per_word.tolist() == [2, 1, 3]
