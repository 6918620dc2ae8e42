"""Exports against torch in fp32: the same answers from a graph, products of integers against sums written out."""

import json
import pickle
import sys
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from data_shards.errors import UserError
from launcher.cli import dispatch
from spe_dist.benchmarks.extractor_throughput import measure_prediction
from spe_dist.extraction.exports.export_extractor import PROOF, Evidence, export_extractor
from spe_dist.extraction.predict.extractor import Extractor
from spe_dist.extraction.predict.extractor_folder import STEM, ExtractorDescription
from spe_dist.finetuning.model_folder import save_model
from spe_dist.kernels import int8_passes
from spe_dist.kernels.int8_passes import Product, add_and_norm, attend_to_steps, gelu_to_steps, to_steps
from spe_dist.models.exported_encoders import EMBEDDINGS, GRAPH, INT8, load_exported_encoder, write_onnx_encoder
from spe_dist.models.int8_layers import Int8Linear, with_int8_layers
from spe_dist.models.onnx_encoder import OnnxEncoder
from spe_dist.models.packed_attention import in_parts
from spe_dist.models.plain_encoder import PlainEncoder
from spe_dist.models.saved_encoder import save_sentence_encoder
from spe_dist.models.sentence_encoder import SentenceEncoder
from tests.unit.spe_dist.extraction.lively import LABELS
from tests.unit.spe_dist.extraction.predict.test_extractor import facts, scores
from tests.unit.spe_dist.extraction.tiny import ANY_TYPES, ARCHITECTURE, SENTENCES, tiny_model, word_pieces
from tests.unit.spe_dist.models.test_packed_attention import CONFIGS, encoder_and_its_padded_twin, pack

vnni = torch.cpu.get_capabilities()
needs_vnni = pytest.mark.skipif(
    not (vnni.get("avx512_vnni") or vnni.get("avx_vnni")), reason="this processor has no VNNI, which int8 needs"
)


def needs_onnx():
    pytest.importorskip("onnx", reason="the extra export is not installed: onnx")
    pytest.importorskip("onnxruntime", reason="the extra export is not installed: onnxruntime")


def random_sentences(count):
    draw = np.random.default_rng(0)
    words = [*sorted({word for sentence in SENTENCES for word in sentence.words}), "zebra-like", "4711"]
    return [draw.choice(words, size=draw.integers(1, 12)).tolist() for _ in range(count)]


def saved(folder, detector="tags", pair_encoder="attention"):
    """A tiny model with random weights that finds something everywhere."""
    architecture = replace(ARCHITECTURE, detector=detector, pair_encoder=pair_encoder, word_shapes=detector == "tags")
    model = tiny_model(LABELS, architecture=architecture).eval()
    heads = [model.types, model.relations.scores]
    heads += [model.detector.tags] if detector == "tags" else [model.detector.product, model.detector.of_last]
    with torch.no_grad():
        for layer in heads:
            layer.weight.normal_(std=4.0)
        for weight in model.sentence_encoder.parameters():
            weight.normal_(std=0.3) if weight.ndim > 1 else None
    labels = {"entity_types": LABELS.entity_types, "relation_types": LABELS.relation_types}
    description = ExtractorDescription(**labels, architecture=architecture, constraints=ANY_TYPES, language="en")
    save_model(folder, STEM, model.sentence_encoder, description, word_pieces(), model.state_dict())
    return folder


@pytest.mark.parametrize(("detector", "pair_encoder"), [("tags", "concatenation"), ("spans", "attention")])
def test_a_graph_gives_the_answers_of_torch(detector, pair_encoder, tmp_path):
    needs_onnx()
    model, out = saved(tmp_path / "model", detector, pair_encoder), tmp_path / "out"
    texts = [*random_sentences(300), "Marie Curie was born in Warsaw. She lived in Paris!", "", "in Paris " * 60]
    proof = export_extractor(model, out, "onnx", Evidence(texts, SENTENCES))
    assert proof.other_answers == 0 and proof.sentences == 303 and 0 < proof.score_difference < 1e-3
    assert proof.entities > 100 and proof.relations > 30
    assert {old == new for old, new in proof.f1.values()} == {True}
    assert json.loads((out / PROOF).read_text())["sentences"] == 303
    assert "all are the same" in (out / "README.md").read_text()
    export = Extractor.from_pretrained(out)
    assert "ONNX Runtime" in repr(export)
    (long,) = export([texts[-1]])
    assert len(long.entities) > 10  # in several windows
    again = pickle.loads(pickle.dumps(export))  # noqa: S301
    assert again(texts[:20]) == export(texts[:20])
    with pytest.raises(UserError, match="exported for CPUs"):
        Extractor.from_pretrained(out, device="cuda")
    with pytest.raises(UserError, match="exported with its own"):
        Extractor.from_pretrained(out, precision="bf16")
    with pytest.raises(UserError, match="an export already"):
        export_extractor(out, tmp_path / "twice", "int8", Evidence(texts))


@pytest.mark.parametrize("kind", [kind for kind in CONFIGS if kind not in ("bert", "xlm-roberta", "deberta-v2")])
def test_every_kind_of_encoder_becomes_a_graph(kind, tmp_path):
    needs_onnx()
    encoder, _ = encoder_and_its_padded_twin(kind)
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.normal_(std=0.3)
    save_sentence_encoder(encoder, tmp_path)
    (tmp_path / "out").mkdir()
    write_onnx_encoder(tmp_path, tmp_path / "out")
    graph = SentenceEncoder(load_exported_encoder(tmp_path / "out"))
    packed = pack([torch.randint(2, 40, (length,)) for length in (5, 1, 12, 3, 3)])
    added = torch.randn(24, encoder.word_embeddings.embedding_dim)
    with torch.no_grad():
        for vectors in (None, added):
            expected = encoder.eval()(packed, vectors)
            assert expected.std() > 0.1 and (graph(packed, vectors) - expected).abs().max() < 1e-4


def test_an_export_that_answers_otherwise_is_not_written(tmp_path, monkeypatch):
    needs_onnx()
    model, right = saved(tmp_path / "model"), OnnxEncoder.forward

    def wrong(self, **inputs):
        found = right(self, **inputs)
        found.last_hidden_state[:, 1] += 0.5
        return found

    monkeypatch.setattr(OnnxEncoder, "forward", wrong)
    with pytest.raises(UserError, match=r"of 60 sentences have other entities or relations .* is not written"):
        export_extractor(model, tmp_path / "out", "onnx", Evidence(random_sentences(60)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_a_damaged_export_and_a_missing_library_are_one_line(tmp_path, monkeypatch):
    needs_onnx()
    out = tmp_path / "out"
    export_extractor(saved(tmp_path / "model"), out, "onnx", Evidence(random_sentences(3)))
    ask = ["predict", str(out), "--text", "Ann"]
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(UserError, match=r'spe predict needs onnxruntime.*pip install "spe_dist\[export\]"'):
            dispatch(ask)
    whole = (out / GRAPH).read_bytes()
    for name, change in (
        (GRAPH, lambda path: path.write_bytes(whole[: len(whole) // 2])),
        (GRAPH, lambda path: path.unlink()),
        (EMBEDDINGS, lambda path: path.write_bytes(b"no")),
    ):
        change(out / name)
        with pytest.raises(UserError, match=r"is not a complete extractor .*exported encoder") as error:
            dispatch(ask)
        assert "\n" not in str(error.value)
        (out / GRAPH).write_bytes(whole)


@needs_vnni
def test_what_cannot_be_exported_is_refused(tmp_path):
    model = saved(tmp_path / "model")
    (tmp_path / "a.txt").write_text("Ann\n")
    with pytest.raises(UserError, match="no sentence to compare the export on"):
        export_extractor(model, tmp_path / "out", "int8", Evidence(["", " "]))
    for arguments, line in (
        ([], "give --format onnx or --format int8"),
        (["--format", "int8"], "give texts to compare answers on"),
        (["--format", "int8", "--step", "3"], "--step is for exports of a run"),
        (["--texts", "a.txt"], "is a fine-tuned model"),
        (["--format", "int8", "--texts", str(tmp_path / "a.txt"), "--out", str(model)], "other files than an export"),
    ):
        with pytest.raises(UserError, match=line):
            dispatch(["export", str(model), *arguments])
    with pytest.raises(UserError, match="--sentences is for exports of an extractor"):
        dispatch(["export", str(tmp_path), "--sentences", "3"])


@needs_vnni
def test_products_of_integers_are_those_written_out():
    torch.manual_seed(0)
    inputs = torch.randn(37, 48) * torch.logspace(-3, 3, 37)[:, None]
    inputs[5], inputs[6], inputs[7, 20] = 0, inputs[6].abs(), 100
    layers = [torch.nn.Linear(48, 8), torch.nn.Linear(48, 24)]
    weight, bias = (torch.cat([getattr(one, name).detach() for one in layers]).double() for name in ("weight", "bias"))
    mixing = torch.zeros(48, 48, dtype=torch.float64)  # each 16 columns with each other
    for block in (0, 16, 32):
        for i, j in product(range(16), repeat=2):
            mixing[block + i, block + j] = (-1) ** (i & j).bit_count()
    read = torch.zeros(37, 48, dtype=torch.float64)
    for row, numbers in enumerate(inputs.double() @ mixing):
        low, high = min(numbers.min().item(), 0), max(numbers.max().item(), 0)
        width = max((high - low) / 255, 1e-12)
        zero = round(-low / width)
        read[row] = torch.tensor([(min(max(round(x / width) + zero, 0), 255) - zero) * width for x in numbers.tolist()])
    of_weight = (weight @ mixing / 16).abs().amax(1, keepdim=True) / 127
    wanted = read @ ((weight @ mixing / 16 / of_weight).round() * of_weight).T + bias
    exact = inputs.double() @ weight.T + bias
    found = Int8Linear(layers)(to_steps(inputs)).finished()
    size = exact.abs().amax(1, keepdim=True)
    assert ((wanted - exact) / size).abs().max() > 1e-3 and ((found - wanted) / size).abs().mean() < 1e-5


@needs_vnni
@pytest.mark.parametrize(("size", "columns"), [(16, 24), (32, 160), (64, 256)])  # 24 are not mixed, nor whole vectors
def test_compiled_passes_are_those_of_torch(size, columns, monkeypatch):
    if int8_passes.cpu_library() is None:
        pytest.skip("nothing can be compiled here")
    torch.manual_seed(size)
    lengths = (5, 1, 20, 16, 17, 33)
    starts, rows = torch.tensor([0, *lengths]).cumsum(0).int(), sum(lengths)
    places = torch.stack([torch.rand(rows) + 0.5, torch.randn(rows)], dim=1)
    qkv = [torch.randn(rows + 4, 6 * size) * 3, places, torch.randn(6 * size), torch.randn(6 * size)]
    inner = Product(torch.randn(rows + 4, columns) * 3, places, torch.randn(columns), torch.randn(columns))
    norm, states = torch.nn.LayerNorm(columns), torch.randn(rows, columns)
    torch.nn.init.normal_(norm.weight), torch.nn.init.normal_(norm.bias)
    states[0, 2:], states[0, 0], states[0, 1] = 0, -0.5, 254.5  # rounded twice, without mixing: one step too many
    spoilt = states.clone()
    spoilt[1, 3], spoilt[4, 0] = torch.nan, torch.inf

    def all_passes():
        given = Product(qkv[0].clone(), *qkv[1:])  # it is overwritten
        steps = [to_steps(states), gelu_to_steps(inner)]
        steps.append(attend_to_steps(given, starts, heads=2, scaling=size**-0.5))
        normed = states.clone()
        add_and_norm(inner, norm, normed)
        assert (~to_steps(spoilt).places.isfinite().all(1)).nonzero().flatten().tolist() == [1, 4]
        return steps, normed

    with torch.no_grad():
        steps, normed = all_passes()
        monkeypatch.setattr(int8_passes, "cpu_library", lambda: None)
        plain_steps, plain_normed = all_passes()
    assert torch.allclose(normed, plain_normed, atol=1e-4)
    for one, other in zip(steps, plain_steps, strict=True):
        values = [steps.steps[:rows] * steps.places[:, :1] - steps.places[:, 1:] for steps in (one, other)]
        apart = (values[0] - values[1]).abs() / other.places[:, :1]
        assert apart.max() < 1.01 and apart.mean() < 0.02  # the nearest of two is a near-tie


@needs_vnni
def test_int8_is_near_and_reads_each_sentence_by_itself(tmp_path, monkeypatch):
    model, out, texts = saved(tmp_path / "model"), tmp_path / "out", random_sentences(200)
    proof = export_extractor(model, out, "int8", Evidence(texts, SENTENCES))
    assert proof.other_answers < 0.3 * proof.sentences and set(proof.f1) == {
        "entity_f1",
        "relation_f1",
        "relation_strict_f1",
    }
    assert (out / INT8).stat().st_size < (model / "model.safetensors").stat().st_size
    exact, export = Extractor.from_pretrained(model, device="cpu"), Extractor.from_pretrained(out)
    assert "int8" in repr(export)
    sizes = {"sentences": 50, "batch_size": 8, "repeats": 1}
    (timed,) = measure_prediction(out, lambda: texts, precisions=(), device=None, **sizes)
    assert timed.variant == "int8 on cpu, batches of 8"
    packed = pack([torch.randint(5, 40, (length,)) for length in (5, 2, 12, 7)])
    with torch.no_grad():
        one, other = (extractor.sentence_encoder(packed) for extractor in (exact, export))
    assert 0 < (one - other).abs().mean() < 0.1 * one.std()
    found = export(texts)
    for alone, together in zip((export([text])[0] for text in texts[:40]), found, strict=False):
        assert facts(alone) == facts(together)  # each row has its own steps, so what else is in the batch is not felt
        assert scores([alone]) == pytest.approx(scores([together]), abs=0.02)
    assert pickle.loads(pickle.dumps(export))(texts) == found  # noqa: S301
    with monkeypatch.context() as patched:
        patched.setattr(torch.cpu, "get_capabilities", dict)
        with pytest.raises(UserError, match="need a processor with VNNI") as error:
            Extractor.from_pretrained(out)
        assert "not a complete" not in str(error.value)
    widened = Extractor.from_pretrained(out)
    with monkeypatch.context() as patched:  # unpickled where bf16 is not multiplied
        patched.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_vnni": True})
        assert len(pickle.loads(pickle.dumps(widened))(texts)) == len(texts)  # noqa: S301
    weights, whole = load_file(out / INT8), (out / INT8).read_bytes()
    name = "encoder.layer.0.inner.bias"
    save_file(weights | {name: weights[name].half()}, out / INT8)
    with pytest.raises(UserError, match=r"inner\.bias is of type torch\.float16; export it again"):
        Extractor.from_pretrained(out)
    save_file(weights | {"encoder.layer.0.inner.grid": torch.zeros(4)}, out / INT8)  # as exports had before
    with pytest.raises(UserError, match=r"Unexpected key.*inner\.grid.*export it again"):
        Extractor.from_pretrained(out)
    (out / INT8).write_bytes(whole[:-10])
    with pytest.raises(UserError, match="is not a complete extractor"):
        Extractor.from_pretrained(out)


@needs_vnni
def test_layers_of_integers_attend_within_each_sequence():
    torch.manual_seed(0)
    config = CONFIGS["bert"].to_dict() | {"hidden_size": 32, "intermediate_size": 40}
    exact = _random_encoder(config)
    packed = pack([torch.randint(2, 40, (length,)) for length in (5, 1, 12, 3)])
    with torch.no_grad():
        wanted = SentenceEncoder(exact)(packed)
        encoder = SentenceEncoder(with_int8_layers(exact))
        compiled = int8_passes.cpu_library() is not None
        assert bool(encoder.model.pieces_at_once) == compiled
        found = encoder(packed)
        assert 0 < (found - wanted).abs().mean() < 0.02 * wanted.std()
        encoder.model.pieces_at_once = 8  # in three parts
        assert torch.allclose(encoder(packed), found, rtol=0, atol=0 if compiled else 1e-5)
        encoder.model.pieces_at_once = 0  # padded inside the attention
        assert (found - encoder(packed)).abs().mean() < 0.02 * found.std()
        projected = SentenceEncoder(with_int8_layers(_random_encoder(config | {"embedding_size": 16})))
        found = projected(packed)
        with torch.autocast("cpu"):  # the first layer is given bf16
            assert (found - projected(packed)).abs().mean() < 0.03 * found.std()


def test_parts_are_of_whole_sequences():
    packed, added = pack([torch.randint(2, 40, (length,)) for length in (5, 1, 12, 3)]), torch.randn(21, 2)
    for most, wanted in ((1, [[5], [1], [12], [3]]), (6, [[5, 1], [12], [3]]), (18, [[5, 1, 12], [3]])):
        parts, of_parts = zip(*in_parts(packed, added, most), strict=True)
        assert torch.equal(torch.cat(of_parts), added)
        assert [part.sequence_starts.diff().tolist() for part in parts] == wanted
        assert torch.equal(torch.cat([part.piece_ids for part in parts]), packed.piece_ids)
        assert torch.equal(torch.cat([part.positions for part in parts]), packed.positions)


def _random_encoder(config):
    encoder = PlainEncoder(config)
    drawn = {name: torch.randn(weight.shape) * 0.3 for name, weight in encoder.state_dict().items()}
    encoder.load_state_dict(drawn, assign=True)
    return encoder
