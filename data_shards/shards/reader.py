"""Shards → records: fetch, check, decode, remember.

Members of a shard are grouped as WebDataset groups them, but WebDataset never decodes them: they reach `record` as
bytes, so that nothing in a shard can run.
"""

from __future__ import annotations

import io
import tarfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from data_shards.errors import UserError
from data_shards.files import explain_write_errors, sha256_of, write_atomically
from data_shards.ragged import offsets_from_lengths
from data_shards.shards import manifest
from data_shards.shards.entity_words import entity_problems
from data_shards.shards.location import is_remote, join_url, read_remote, user_cache, without_secrets
from data_shards.shards.manifest import FILE_NAME, Shard
from data_shards.shards.record import ENTITIES, LAYERS, Records, known_layers, records_from_members

_AGAIN = "copy or build the dataset again (`spe shards verify` lists all that is damaged)"


class ShardReader:
    """Records of a dataset by id; an id counts records in manifest order.

    Args:
        location: folder or URL of a dataset.
        cache_dir: where files of a remote dataset are kept; by default in the user's cache folder, by fingerprint.
        max_open_shards: decoded shards to keep in memory; can be set later too. A reader of many lanes should keep all
            that these are in, or it decodes the same ones over and over (`spe_dist.train.data_order.open_reader`).

    Raises:
        UserError: not a dataset, or (when records are taken) a shard that is missing, damaged or not the listed one.
    """

    def __init__(self, location: str | Path, *, cache_dir: str | Path | None = None, max_open_shards: int = 64) -> None:
        self.location = location
        self.manifest = manifest.load(location)
        self._layers = known_layers(self.manifest.layers)
        self._remote = is_remote(location)
        self._folder = Path(location)
        if self._remote:
            self._folder = Path(cache_dir) if cache_dir else _default_cache(self.manifest.fingerprint)
        self._ends = np.cumsum(self.manifest.shard_records, dtype=np.int64)
        self.max_open_shards = max_open_shards
        self._open: OrderedDict[int, Records] = OrderedDict()
        self._checked: set[str] = set()

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def first_ids(self) -> NDArray[np.int64]:
        """Id of the first record of each shard, and the number of all records, [shards + 1]."""
        return offsets_from_lengths(np.array(self.manifest.shard_records, dtype=np.int64))

    def take(self, record_ids: ArrayLike) -> Records:
        """The records with the given ids (any shape, taken flat), in the order asked.

        Raises:
            IndexError: an id is outside the dataset.
        """
        ids = np.asarray(record_ids, dtype=np.int64).reshape(-1)
        if len(ids) == 0:
            return Records.empty(self._layers)
        if ids.min() < 0 or ids.max() >= len(self):
            raise IndexError(f"record ids must be in [0, {len(self)}), not [{ids.min()}, {ids.max()}]")
        shard_of_id = np.searchsorted(self._ends, ids, side="right")
        by_shard = np.argsort(shard_of_id, kind="stable")
        shards, counts = np.unique(shard_of_id, return_counts=True)
        parts = [
            self._take_from(int(shard), ids[places])
            for shard, places in zip(shards, np.split(by_shard, np.cumsum(counts)[:-1]), strict=True)
        ]
        places_back = np.empty_like(by_shard)
        places_back[by_shard] = np.arange(len(ids))
        return Records.concat(parts).take(places_back)

    def tokenizer_folder(self) -> Path:
        """A local folder with the dataset's tokenizer, its files checked against the manifest."""
        info = self.manifest.tokenizer
        for name, sha256 in info.files.items():
            self._read(f"{info.folder}/{name}", sha256)
        return self._folder / info.folder

    def read_shard(self, index: int) -> Records:
        """All records of a shard, read from its file and checked against the manifest."""
        return Records.concat(list(self._blocks(self.manifest.shardlist[index])))

    def _take_from(self, index: int, ids: NDArray[np.int64]) -> Records:
        if index not in self._open:
            self._open[index] = self.read_shard(index)
            if len(self._open) > self.max_open_shards:
                self._open.popitem(last=False)
        self._open.move_to_end(index)
        return self._open[index].take(ids - (self._ends[index] - self.manifest.shardlist[index].records))

    def _blocks(self, shard: Shard) -> Iterator[Records]:
        content = self._read(shard.url, shard.sha256, shard.filesize)
        path = self._folder / shard.url
        counted = blocks = 0
        try:
            for members in _tar_groups(content, str(path)):
                block = records_from_members(members, self._layers)
                counted, blocks = counted + len(block), blocks + 1
                yield block
        except (ValueError, EOFError, tarfile.TarError) as error:
            raise UserError(f"{path}: not a shard of this program ({error}): {_AGAIN}") from error
        if (counted, blocks) != (shard.records, shard.nsamples):
            raise UserError(
                f"{path}: holds {counted} records in {blocks} blocks, the manifest says {shard.records} in "
                f"{shard.nsamples}: it belongs to another dataset; {_AGAIN}"
            )

    def _read(self, name: str, sha256: str, size: int | None = None) -> bytes:
        path = self._folder / name
        if self._remote and not path.exists():
            self._fetch(name, sha256)
        try:
            content = path.read_bytes()
            problem = self._problem(name, content, sha256, size)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}): {_AGAIN}") from error
        if problem and self._remote:  # a damaged cache heals itself; a damaged origin raises here
            content, problem = self._fetch(name, sha256), None
        if problem:
            raise UserError(f"{path}: {problem}: {_AGAIN}")
        self._checked.add(name)
        return content

    def _problem(self, name: str, content: bytes, sha256: str, size: int | None) -> str | None:
        if size is not None and len(content) != size:
            return f"{len(content)} bytes where the manifest says {size}: truncated or replaced"
        if name not in self._checked and sha256_of(content) != sha256:
            return "the content is not what the manifest lists (SHA-256 differs)"
        return None

    def _fetch(self, name: str, sha256: str) -> bytes:
        content = read_remote(str(self.location), name)
        if sha256_of(content) != sha256:
            url = without_secrets(join_url(str(self.location), name))
            raise UserError(f"{url}: the content is not what the manifest lists (SHA-256 differs): {_AGAIN}")
        path = self._folder / name
        with explain_write_errors(self._folder):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
        return content


def verify(location: str | Path, *, cache_dir: str | Path | None = None) -> list[str]:
    """Read a whole dataset and compare it with its manifest; one line for each problem, none if all is well."""
    reader = ShardReader(location, cache_dir=cache_dir)
    problems = []
    try:
        reader.tokenizer_folder()
    except UserError as error:
        problems.append(str(error))
    for index in range(len(reader.manifest.shardlist)):
        try:
            problems += _shard_problems(reader, index)
        except UserError as error:
            problems.append(str(error))
    expected, counted = reader.manifest.statistics.records, len(reader)
    if expected != counted:
        problems.append(f"{location}: the shards list {counted} records, the statistics {expected}")
    return problems


def _shard_problems(reader: ShardReader, index: int) -> Iterator[str]:
    shard, records = reader.manifest.shardlist[index], reader.read_shard(index)
    for name in LAYERS:
        found, listed = len(records.layers[name].values) if name in records.layers else 0, shard.size(name)
        if found != listed:
            yield f"{shard.url}: {found} {name}, the manifest says {listed}"
    if len(records.pieces.values) and records.pieces.values.max() >= reader.manifest.tokenizer.vocab_size:
        yield f"{shard.url}: holds piece ids beyond the vocabulary of {reader.manifest.tokenizer.vocab_size}"
    if ENTITIES in records.layers:
        for problem in entity_problems(records, len(reader.manifest.entity_types)):
            yield f"{shard.url}: {problem}"


def _tar_groups(content: bytes, name: str) -> Iterator[Mapping[str, bytes]]:
    from webdataset.tariterators import group_by_keys  # of the extra "train": predicting reads no shards

    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:  # not compressed, or it could be of any size
        yield from group_by_keys({"fname": fname, "data": data, "__url__": name} for fname, data in _members(tar))


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    """Names and contents, all of which are plain files: nothing is unpacked, but who made another one means no good."""
    for member in tar:
        if not member.isreg() or member.issparse():
            raise ValueError(f"member {member.name!r} is not a plain file")
        if not FILE_NAME.fullmatch(member.name):
            raise ValueError(f"member {member.name!r} is not a plain file name")
        file = tar.extractfile(member)
        assert file is not None  # a plain file
        yield member.name, file.read()


def _default_cache(fingerprint: str) -> Path:
    return user_cache() / "shards" / fingerprint
