"""Documents of random pieces, mentions and facts, as records and as a dataset, without text."""

from pathlib import Path

import numpy as np

from data_shards.pipeline.build import _tokenizer_info
from data_shards.pipeline.finished_unit import ShardFormat, _write_shard
from data_shards.pipeline.unit_builder import TOKENIZER_FOLDER
from data_shards.ragged import Ragged
from data_shards.shards.manifest import Manifest, RelationType, Statistics
from data_shards.shards.record import BLOCKED, DOCUMENT_LAYERS, ENTITIES, TEXT_LAYERS, UNLINKED, Records
from data_shards.text.word_pieces import WordPieces
from tests.unit.spe_dist.tiny_run import DEBUG_VOCAB

RELATIONS = 6
FIRST_PIECE = 5  # behind the special ones


def ragged(rows: list, columns: int = 0) -> Ragged:
    shape = (-1, columns) if columns else (-1,)
    values = np.concatenate([np.array(row, dtype=np.int64).reshape(shape) for row in rows])
    return Ragged.from_lengths(values, np.array([len(row) for row in rows]))


def random_documents(
    count: int, seed: int, *, facts: int = 8, vocab_size: int = 400, blocked: float = 0.1, most_words: int = 40
) -> Records:
    """Documents of a few sentences with up to six entities, some of them without facts, some pairs blocked."""
    draw = np.random.default_rng(seed)
    layers: dict[str, list] = {name: [] for name in (*TEXT_LAYERS, ENTITIES, *DOCUMENT_LAYERS)}
    for _ in range(count):
        word_lengths = draw.integers(1, 4, size=draw.integers(12, most_words))
        words = len(word_lengths)
        layers["pieces"].append(draw.integers(FIRST_PIECE, vocab_size, size=word_lengths.sum()))
        layers["words"].append(np.cumsum(word_lengths) - word_lengths)
        bounds = np.sort(draw.choice(words + 1, size=2 * draw.integers(1, min(8, words // 2)), replace=False))
        mentions = bounds.reshape(-1, 2)
        _, of_mention = np.unique(draw.integers(0, 6, size=len(mentions)), return_inverse=True)
        _, first = np.unique(of_mention, return_index=True)
        of_mention = np.argsort(np.argsort(first))[of_mention]  # numbered by their first mentions
        entities = int(of_mention.max()) + 1
        layers[ENTITIES].append(np.column_stack([mentions, np.zeros(len(mentions), dtype=np.int64)]))
        layers["mention_entities"].append(of_mention)
        layers["sentence_starts"].append([0, *np.sort(draw.choice(np.arange(1, words), size=3, replace=False))])
        ids = draw.choice(30, size=entities, replace=False)
        layers["knowledge_ids"].append(np.where(draw.random(entities) < 0.2, UNLINKED, ids))
        rows = {}
        for _ in range(draw.integers(0, facts) if entities > 1 else 0):
            head, tail = draw.choice(entities, size=2, replace=False).tolist()
            rows.setdefault((head, tail), set()).add(int(draw.integers(RELATIONS)))
        for head, tail in list(rows):
            if draw.random() < blocked:
                rows[head, tail] = rows[tail, head] = {BLOCKED}
        layers["relations"].append([(*pair, one) for pair, of_pair in sorted(rows.items()) for one in sorted(of_pair)])
    columns = {ENTITIES: 3, "relations": 3}
    return Records(**{name: ragged(rows, columns.get(name, 0)) for name, rows in layers.items()})


def write_documents(folder: Path, count: int = 120, *, seed: int = 3, shards: int = 2, **options: object) -> Manifest:
    """A dataset of random documents."""
    records = random_documents(count, seed, vocab_size=WordPieces.load(str(DEBUG_VOCAB)).vocab_size, **options)
    return write_records(folder, records, shards=shards, documents={"max_entities": 64})


def write_records(
    folder: Path, records: Records, *, shards: int, word_pieces: str = str(DEBUG_VOCAB), **build: object
) -> Manifest:
    """A dataset of records with the layers of documents, which was built with these settings."""
    tokenizer = WordPieces.load(word_pieces)
    folder.mkdir(parents=True)
    tokenizer.save(folder / TOKENIZER_FOLDER)
    shard_format = ShardFormat(32, 160, tokenizer.vocab_size)
    parts = np.array_split(np.arange(len(records)), shards)
    written = [
        _write_shard(folder, f"{number:02}", records.take(rows), shard_format) for number, rows in enumerate(parts)
    ]
    manifest = Manifest(
        name="documents",
        shardlist=tuple(written),
        layers=tuple(records.layers),
        block_records=32,
        max_pieces=160,
        tokenizer=_tokenizer_info(folder / TOKENIZER_FOLDER, tokenizer),
        build={"language": "en", "entities": {"min_entities": 2}, **build},
        statistics=Statistics(records=len(records)),
        entity_types={"ENTITY": len(records.entities.values)},
        relation_types={
            f"R{n}": RelationType(name, 1)
            for n, name in enumerate(("born in", "mayor of", "part of", "son of", "near", "works for"))
        },
    )
    manifest.save(folder)
    return manifest
