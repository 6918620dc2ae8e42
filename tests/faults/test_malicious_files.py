"""Files made to harm: each is refused in one line, nothing of them runs, and none takes more memory than it should."""

import bz2
import gzip
import io
import json
import shutil
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save
from transformers import AutoConfig

from data_shards.errors import UserError
from data_shards.input.bio import unzip_table
from data_shards.input.stream import MAX_LINE
from data_shards.pipeline.corpus import parse_documents, read_units, resolve_sources
from data_shards.shards import manifest
from data_shards.shards.reader import ShardReader
from data_shards.shards.record import LAYERS, TEXT_LAYERS, records_from_members
from spe_dist.checkpoint.reader import LoadedCheckpoint, faults_of, files_of_manifest
from spe_dist.export.export_format import Description
from spe_dist.extraction.predict.extractor_folder import WEIGHTS, load_extractor
from spe_dist.models.saved_encoder import load_sentence_encoder
from tests.faults.test_security import Malicious, list_shard_as_it_is
from tests.unit.spe_dist.extraction.lively import save_lively

_MOST = 300 << 20  # bytes

MEMBERS = [member for name in TEXT_LAYERS for member in LAYERS[name].members]


@pytest.fixture
def dataset(shards, tmp_path):
    return Path(shutil.copytree(shards / "shards", tmp_path / "dataset"))


@pytest.fixture
def bounded():
    """Fails if more than a few hundred megabytes were held at any time."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < _MOST, f"{peak:,} bytes"


def _refuse(dataset: Path, reason: str) -> None:
    list_shard_as_it_is(dataset)
    with pytest.raises(UserError, match=reason) as error:
        ShardReader(dataset).read_shard(0)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


# Shards: members of a tar file


def _member(name: str = "00-000000-0.pieces.npy", size: int = 0, **fields) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    for field, value in fields.items():
        setattr(member, field, value)
    return member


def _append(dataset: Path, member: tarfile.TarInfo, content: bytes = b"") -> None:
    with tarfile.open(dataset / "00-000000.tar", "a") as tar:
        tar.addfile(member, io.BytesIO(content) if content else None)


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../../x.pieces.npy", "a/../../x.npy", "sub/x.npy", "a\nb.npy", "-rf.npy"]
)
def test_a_member_that_names_a_path_is_refused(dataset, name):
    _append(dataset, _member(name, 1), b"x")
    _refuse(dataset, "is not a plain file name")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
)
def test_a_member_that_is_no_file_is_refused(dataset, kind):
    _append(dataset, _member(type=kind, linkname="/etc/passwd"))
    _refuse(dataset, "is not a plain file")


def test_a_member_of_holes_is_refused(dataset, bounded):
    """A sparse file of a terabyte takes a few bytes of an archive."""
    fields = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.size": str(1 << 40),
        "GNU.sparse.map": "0,1",
    }
    with tarfile.open(dataset / "00-000000.tar", "a", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(_member(size=1, pax_headers=fields), io.BytesIO(b"x"))
    _refuse(dataset, "is not a plain file")


@pytest.mark.parametrize("size", [1 << 20, 1 << 32, 1 << 60])
def test_a_member_that_says_it_is_huge_is_refused(dataset, size, bounded):
    header = _member(size=size).tobuf(tarfile.GNU_FORMAT)
    content = (dataset / "00-000000.tar").read_bytes()
    (dataset / "00-000000.tar").write_bytes(header + content)
    _refuse(dataset, "not a shard of this program")


def test_two_members_of_one_name_are_refused(dataset):
    with tarfile.open(dataset / "00-000000.tar") as tar:
        last = tar.getmembers()[-1]
    _append(dataset, _member(last.name, 1), b"x")
    _refuse(dataset, "duplicate file name")


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
def test_a_compressed_shard_is_refused(dataset, compress, bounded):
    """It could be of any size, decompressed."""
    path = dataset / "00-000000.tar"
    path.write_bytes(compress(path.read_bytes()))
    _refuse(dataset, "not a shard of this program")


# Shards: arrays


def _npy(header: str, content: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    length = struct.pack("<H" if version == b"\x01\x00" else "<I", len(header))
    return b"\x93NUMPY" + version + length + header.encode() + content


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(_npy("{'descr': '<u2', 'fortran_order': False, 'shape': (1000000000000,)}\n"), id="lying shape"),
        pytest.param(_npy("{'descr': '<u2', 'fortran_order': False, 'shape': (-1,)}\n", b"ab"), id="negative"),
        pytest.param(_npy("{'descr': '<u2', 'fortran_order': False, 'shape': (4,)}\n", b"ab"), id="too short"),
        pytest.param(_npy("{'descr': '<u2', 'fortran_order': False, 'shape': (1,)}\n", b"abcd"), id="too long"),
        pytest.param(_npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n", b"\x80\x04."), id="objects"),
        pytest.param(_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}\n", b"abcd"), id="floats"),
        pytest.param(_npy("{'descr': '<u2', 'fortran_order': False, 'shape': " + "(" * 3000 + "}\n"), id="nested"),
        pytest.param(_npy("__import__('os').getpid()\n"), id="code"),
        pytest.param(_npy("x" * 70000, version=b"\x02\x00"), id="long header"),
        pytest.param(b"\x93NUMPY\x01\x00\xff\xff", id="cut"),
        pytest.param(b"", id="empty"),
    ],
)
def test_an_array_that_lies_is_refused(shards, array, bounded):
    with tarfile.open(shards / "shards" / "00-000000.tar") as tar:
        members = {name.split(".", 1)[1]: tar.extractfile(name).read() for name in tar.getnames()}
    assert len(records_from_members(members))
    for name in MEMBERS:
        with pytest.raises(ValueError, match=r"did not write|do not fit"):
            records_from_members(members | {name: array})


# Manifests


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("[" * 100_000 + "]" * 100_000, id="nested"),
        pytest.param('{"a":' * 100_000 + "1" + "}" * 100_000, id="nested objects"),
        pytest.param("9" * 1_000_000, id="long number"),
        pytest.param("NaN", id="no number"),
        pytest.param('"' + "\\ud800" + '"', id="half a character"),
    ],
)
@pytest.mark.parametrize("name", ["manifest of shards", "description", "manifest of a checkpoint", "state"])
def test_json_that_harms_its_parser_is_refused(content, name, tmp_path):
    if name == "manifest of a checkpoint":
        (tmp_path / "step-000000001").mkdir()
        (tmp_path / "step-000000001" / "manifest.json").write_text(content)
        assert faults_of(tmp_path / "step-000000001") == ["manifest.json cannot be read"]
        assert files_of_manifest(tmp_path / "step-000000001") == []
        return
    (tmp_path / "spe_dist.json").write_text(content)
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(UserError) as error:
        match name:
            case "manifest of shards":
                manifest.parse(content.encode(), "manifest.json")
            case "description":
                Description.load(tmp_path)
            case "state":
                LoadedCheckpoint(tmp_path).metadata  # noqa: B018
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("key", ["records", "nsamples", "filesize", "words"])
@pytest.mark.parametrize("value", [10**30, -1, 1e300, 1 << 62])
def test_counts_that_no_dataset_has_are_refused(dataset, key, value):
    document = json.loads((dataset / "manifest.json").read_text())
    document["shardlist"][0][key] = value
    (dataset / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match=rf"malformed at shardlist\.0\.{key}"):
        ShardReader(dataset)


# Text


def _read_all(path: Path, text_field: str = "text") -> list[str]:
    (source,) = resolve_sources([str(path)], None, path.parent)
    texts = []
    for unit in read_units(source, 0, text_field=text_field):
        texts += parse_documents(unit, source.format, text_field)[0]
    return texts


@pytest.mark.parametrize(("ending", "compress"), [("gz", gzip.compress), ("bz2", bz2.compress)])
@pytest.mark.parametrize("form", ["txt", "jsonl"])
def test_a_compressed_line_of_gigabytes_is_refused(tmp_path, bounded, ending, compress, form):
    path = tmp_path / f"bomb.{form}.{ending}"
    path.write_bytes(compress(b"a" * (16 << 20)) * 200)
    assert path.stat().st_size < 5 << 20
    with pytest.raises(UserError, match=f"line 1 is longer than {MAX_LINE >> 20} MiB"):
        _read_all(path)


def test_a_zipped_table_of_gigabytes_is_refused(tmp_path, bounded):
    path = tmp_path / "bomb.csv.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("table.csv", b"a,b,c\n" * 1000)
    content = path.read_bytes()
    size = struct.pack("<I", 6000)
    path.write_bytes(content.replace(size, struct.pack("<I", (1 << 30) + 1)))  # as it declares itself
    with pytest.raises(UserError, match="unpack and split it"):
        unzip_table(path)


def test_a_zipped_table_that_declares_itself_smaller_is_read_no_further(tmp_path, bounded):
    path = tmp_path / "bomb.csv.zip"
    deflated = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(path, "w", deflated, compresslevel=1) as archive, archive.open("table.csv", "w") as table:
        for _ in range(400):
            table.write(b"\0" * (1 << 20))
    content = path.read_bytes()
    path.write_bytes(content.replace(struct.pack("<I", 400 << 20), struct.pack("<I", 100)))
    with pytest.raises(UserError, match="cannot be read"):
        unzip_table(path)


def test_a_zipped_table_is_not_unpacked_to_where_it_says(tmp_path):
    path = tmp_path / "a" / "table.csv.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../out.csv", "s,w,t\n1,a,O\n")
    assert unzip_table(path) == b"s,w,t\n1,a,O\n"
    assert sorted(tmp_path.rglob("*.csv")) == []


def test_an_extension_type_of_parquet_does_not_run(tmp_path):
    """Arrow before 14 unpickled what the schema of a file says is a Python type."""
    ran = tmp_path / "ran"
    import pickle

    kind = {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": pickle.dumps(Malicious(ran))}
    schema = pa.schema([pa.field("text", pa.binary(), metadata=kind)])
    pq.write_table(pa.table([pa.array([b"a b c"])], schema=schema), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="text"):
        _read_all(tmp_path / "a.parquet")
    assert not ran.exists()


# Tensors


def _safetensors(header: dict | bytes, content: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + content


def _tensor(start: int, end: int, shape: list[int] | None = None) -> dict:
    return {"dtype": "U8", "shape": shape or [end - start], "data_offsets": [start, end]}


BAD_TENSORS = {
    "huge header": _safetensors(b"{}", length=1 << 62),
    "header beyond the file": _safetensors(b"{}", length=1000),
    "header of a gigabyte": _safetensors(b"{}", length=1 << 30),
    "overlapping": _safetensors({"a": _tensor(0, 8), "b": _tensor(4, 12)}, b"x" * 12),
    "out of range": _safetensors({"a": _tensor(0, 1 << 40)}, b"x" * 8),
    "backwards": _safetensors({"a": {"dtype": "U8", "shape": [8], "data_offsets": [8, 0]}}, b"x" * 8),
    "another size": _safetensors({"a": _tensor(0, 8, [1 << 40])}, b"x" * 8),
    "overflowing": _safetensors({"a": _tensor(0, 8, [1 << 40, 1 << 40])}, b"x" * 8),
    "a gap": _safetensors({"a": _tensor(0, 4), "b": _tensor(8, 12)}, b"x" * 12),
    "unlisted bytes": _safetensors({"a": _tensor(0, 4)}, b"x" * 12),
    "nested": _safetensors(b"[" * 100_000 + b"]" * 100_000),
    "no JSON": _safetensors(b"\xff\xfe"),
    "an unknown type": _safetensors({"a": {"dtype": "O", "shape": [1], "data_offsets": [0, 8]}}, b"x" * 8),
    "empty": b"",
}


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_tensors_of_a_checkpoint_that_lie_are_refused(tmp_path, name, bounded):
    (tmp_path / "manifest.json").write_text('{"files": {"rank-0.safetensors": {}}}')
    (tmp_path / "rank-0.safetensors").write_bytes(BAD_TENSORS[name])
    with pytest.raises(UserError, match="is not a safetensors file") as error:
        LoadedCheckpoint(tmp_path).names()
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_lively(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def copied(model, tmp_path):
    return Path(shutil.copytree(model, tmp_path / "model"))


@pytest.mark.parametrize("file", [WEIGHTS, "model.safetensors"])
@pytest.mark.parametrize("name", ["huge header", "overlapping", "out of range", "overflowing", "nested", "empty"])
def test_an_extractor_whose_tensors_lie_is_refused(copied, file, name, bounded):
    (copied / file).write_bytes(BAD_TENSORS[name])
    with pytest.raises(UserError, match=str(copied)) as error:
        load_extractor(copied)
    assert "\n" not in str(error.value)


def test_pickled_weights_are_not_read(copied, tmp_path):
    """transformers falls back on them where there is no other file."""
    ran = tmp_path / "ran"
    torch.save(Malicious(ran), copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    config = AutoConfig.from_pretrained(copied)
    with pytest.raises(UserError, match="pickled weights"):
        load_sentence_encoder(str(copied), config)
    assert not ran.exists()


def test_code_beside_a_model_does_not_run_and_nobody_is_asked(copied, tmp_path):
    ran = tmp_path / "ran"
    (copied / "code.py").write_text(f"open({str(ran)!r}, 'w')\n")
    config = json.loads((copied / "config.json").read_text())
    classes = {"AutoConfig": "code.Config", "AutoModel": "code.Model", "AutoTokenizer": "code.Tokenizer"}
    (copied / "config.json").write_text(json.dumps(config | {"auto_map": classes}))
    load_extractor(copied)
    config["model_type"] = "of my own"
    (copied / "config.json").write_text(json.dumps(config | {"auto_map": classes}))
    with pytest.raises(UserError):
        load_extractor(copied)
    assert not ran.exists()


def test_names_in_an_index_do_not_lead_out_of_a_model(copied, tmp_path):
    """Weights in several files are named by `model.safetensors.index.json`."""
    (tmp_path / "elsewhere.safetensors").write_bytes(save({"a": torch.from_numpy(np.zeros(1))}))
    (copied / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": {"embeddings.word_embeddings.weight": "../elsewhere.safetensors"}}
    (copied / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError):
        load_extractor(copied)
