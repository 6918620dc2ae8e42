"""Reading shards back: right records in the right order, and one clear line for every damage."""

import functools
import hashlib
import http.server
import io
import itertools
import json
import pickle
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import webdataset
from tokenizers import Tokenizer

from data_shards.errors import UserError
from data_shards.shards import reader as reader_module
from data_shards.shards.location import read_remote
from data_shards.shards.reader import ShardReader, verify
from data_shards.shards.record import LAYERS, TEXT_LAYERS
from data_shards.text.sentences import split_sentences
from data_shards.text.word_pieces import WordPieces

MEMBERS = [member for name in TEXT_LAYERS for member in LAYERS[name].members]


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dataset, tmp_path / "copy"))


def list_as_it_is(folder: Path, name: str) -> None:
    """Make the manifest agree with a shard's present content: what an attacker would do."""
    document = json.loads((folder / "manifest.json").read_text())
    content = (folder / name).read_bytes()
    for shard in document["shardlist"]:
        if shard["url"] == name:
            shard |= {"filesize": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(document))


def members(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar.getmembers()}


def rewrite(path: Path, content: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_records_are_the_sentences_in_order(dataset: Path, documents: list[str]) -> None:
    reader = ShardReader(dataset)
    tokenizer = WordPieces.load(str(reader.tokenizer_folder()))
    expected = tokenizer.encode_sentences([s for document in documents for s in split_sentences(document)])
    assert len(reader) == len(expected) == reader.manifest.statistics.records
    found = reader.take(np.arange(len(reader)))
    for ours, theirs in ((found.pieces, expected.pieces), (found.word_starts, expected.word_starts)):
        assert np.array_equal(ours.values, theirs.values)
        assert np.array_equal(ours.offsets, theirs.offsets)


@pytest.mark.parametrize("max_open_shards", [1, 3, 64])
def test_any_order_with_repeats(dataset: Path, max_open_shards: int) -> None:
    reader = ShardReader(dataset, max_open_shards=max_open_shards)
    whole = reader.take(np.arange(len(reader)))
    ids = np.random.default_rng(0).integers(0, len(reader), (7, 31))
    found = reader.take(ids)
    assert len(found) == 7 * 31
    assert np.array_equal(found.pieces.values, whole.pieces.take(ids.ravel()).values)
    assert np.array_equal(found.word_starts.values, whole.word_starts.take(ids.ravel()).values)
    assert len(reader._open) <= max_open_shards


def test_no_records_and_records_that_are_not_there(dataset: Path) -> None:
    reader = ShardReader(dataset)
    assert len(reader.take([])) == 0
    for wrong in (-1, len(reader)):
        with pytest.raises(IndexError):
            reader.take([wrong])


def test_plain_webdataset_reads_the_shards(dataset: Path, documents: list[str]) -> None:
    """No code of ours: tar groups of arrays, ids back to text with the dataset's own tokenizer."""
    import webdataset

    tokenizer = Tokenizer.from_file(str(dataset / "tokenizer" / "tokenizer.json"))
    sentences = []
    for block in webdataset.WebDataset([str(p) for p in sorted(dataset.glob("*.tar"))], shardshuffle=False).decode():
        ends = block["piece_offsets.npy"]
        assert block["pieces.npy"].dtype == np.uint16 and block["word_starts.npy"].dtype == np.uint8
        sentences += [tokenizer.decode(block["pieces.npy"][a:b]) for a, b in itertools.pairwise(ends)]

    def letters(text: str) -> str:
        return "".join(text.split())

    lowered = tokenizer.normalizer.normalize_str("".join(documents))
    assert letters("".join(sentences)) == letters(lowered)


Damage = Callable[[Path], object]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:-600]), "truncated"),
        (lambda path: path.write_bytes(path.read_bytes()[:1000] + b"x" + path.read_bytes()[1001:]), "SHA-256 differs"),
    ],
)
def test_damaged_shards_are_named(copy: Path, damage: Damage, message: str) -> None:
    damage(copy / "00-000003.tar")
    reader = ShardReader(copy)
    reader.take([0])
    with pytest.raises(UserError, match=rf"00-000003\.tar.*{message}"):
        reader.take(np.arange(len(reader)))
    problems = verify(copy)
    assert len(problems) == 1 and "00-000003.tar" in problems[0]


def test_damaged_tokenizer_is_named(copy: Path) -> None:
    (copy / "tokenizer" / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer\.json.*SHA-256 differs"):
        ShardReader(copy).tokenizer_folder()
    assert len(verify(copy)) == 1


def test_a_whole_dataset_verifies(dataset: Path) -> None:
    assert verify(dataset) == []


def test_foreign_shards_are_refused_even_with_the_right_hash(copy: Path) -> None:
    path = copy / "00-000002.tar"
    blocks = members(path)
    rewrite(path, {name: data for name, data in blocks.items() if not name.startswith("00-000002-0001")})
    list_as_it_is(copy, path.name)
    with pytest.raises(UserError, match="the manifest says"):
        ShardReader(copy).read_shard(2)
    for content in ({"a.txt": b"hello"}, {name: data for name, data in blocks.items() if MEMBERS[0] not in name}):
        rewrite(path, content)
        list_as_it_is(copy, path.name)
        with pytest.raises(UserError, match="not a shard of this program"):
            ShardReader(copy).read_shard(2)
    path.write_bytes(b"no tar at all" * 100)
    list_as_it_is(copy, path.name)
    with pytest.raises(UserError, match="not a shard of this program"):
        ShardReader(copy).read_shard(2)


class Malicious:
    """Creates a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_pickles_never_run(copy: Path, tmp_path: Path) -> None:
    trap, path = tmp_path / "owned", copy / "00-000001.tar"
    payload = pickle.dumps(Malicious(trap))
    blocks = members(path)
    key = next(iter(blocks)).split(".")[0]
    extra = {f"{key}.{ending}": payload for ending in ("pkl", "pyd", "pickle", "pth")}
    rewrite(path, {f"{key}.{name}": blocks[f"{key}.{name}"] for name in MEMBERS} | extra | blocks)
    list_as_it_is(copy, path.name)
    assert len(ShardReader(copy).read_shard(1)) == ShardReader(copy).manifest.shardlist[1].records
    array = io.BytesIO()
    np.save(array, np.array([Malicious(trap)], dtype=object), allow_pickle=True)
    rewrite(path, blocks | {f"{key}.pieces.npy": array.getvalue()})
    list_as_it_is(copy, path.name)
    with pytest.raises(UserError, match="not a shard of this program"):
        ShardReader(copy).read_shard(1)
    assert not trap.exists()
    pickle.loads(payload)  # noqa: S301
    assert trap.exists()  # the trap does work


@pytest.fixture
def server(copy: Path) -> Iterator[tuple[str, list[str]]]:
    """An HTTP server of the copy on loopback, and the paths asked for."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            asked.append(self.path)

    handler = functools.partial(Handler, directory=str(copy))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()


@pytest.mark.skipif(shutil.which("curl") is None, reason="webdataset opens http with curl")
def test_remote_shards_are_fetched_once_and_checked(
    server: tuple[str, list[str]], dataset: Path, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked = server
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    local = ShardReader(dataset).take(np.arange(150))
    for _ in range(2):
        remote = ShardReader(url)
        assert np.array_equal(remote.take(np.arange(150)).pieces.values, local.pieces.values)
        assert WordPieces.load(str(remote.tokenizer_folder())).fingerprint == remote.manifest.tokenizer.fingerprint
    assert sorted(path for path in asked if path.endswith(".tar")) == ["/00-000000.tar", "/00-000001.tar"]
    cache = tmp_path / "cache" / "spe_dist" / "shards" / remote.manifest.fingerprint
    (cache / "00-000000.tar").write_bytes(b"damaged")  # heals
    assert np.array_equal(ShardReader(url).take([0]).pieces.values, local.pieces.row(0))
    (copy / "00-000002.tar").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"00-000002\.tar.*SHA-256 differs"):
        ShardReader(url).read_shard(2)
    assert not (cache / "00-000002.tar").exists()
    with pytest.raises(UserError, match="could not be fetched"):
        ShardReader(f"{url}/nowhere")


def test_shards_at_a_url_of_arrow_are_read(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delattr(webdataset, "gopen")  # which knows file:// too, but not s3://
    remote = ShardReader(f"file://{dataset.absolute()}")
    assert np.array_equal(remote.take([3]).pieces.values, ShardReader(dataset).take([3]).pieces.values)


def test_options_of_a_url_stay_behind_the_name_and_out_of_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def gopen(url: str, mode: str) -> None:
        opened.append(url)
        raise RuntimeError(f"403 for {url}")

    monkeypatch.setattr(webdataset, "gopen", gopen)
    with pytest.raises(UserError) as error:
        read_remote("https://me:SECRET@host/data?token=SECRET", "manifest.json")
    assert opened == ["https://me:SECRET@host/data/manifest.json?token=SECRET"]
    assert "https://host/data/manifest.json could not be fetched" in str(error.value)
    assert "SECRET" not in str(error.value)


def test_hashes_are_checked_at_the_first_read_only(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(reader_module, "sha256_of", lambda data: calls.append(0) or hashlib.sha256(data).hexdigest())
    reader = ShardReader(dataset, max_open_shards=1)
    for _ in range(3):
        reader.take([0, len(reader) - 1])
    assert len(calls) == 2
