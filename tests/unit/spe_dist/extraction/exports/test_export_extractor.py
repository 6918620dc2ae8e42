"""Exports against torch in fp32: the same answers from a graph, products of integers against sums written out."""

import json
import pickle
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from data_shards.annotated.annotated_sentence import AnnotatedSentence
from data_shards.errors import UserError
from launcher.cli import dispatch
from spe_dist.benchmarks.extractor_throughput import measure_prediction
from spe_dist.extraction.exports.export_extractor import PROOF, Evidence, export_extractor
from spe_dist.extraction.predict.extractor import Extractor
from spe_dist.extraction.predict.extractor_folder import STEM, ExtractorDescription
from spe_dist.finetuning.model_folder import save_model
from spe_dist.kernels import int8_attention
from spe_dist.models.exported_encoders import EMBEDDINGS, GRAPH, INT8, load_exported_encoder, write_onnx_encoder
from spe_dist.models.int8_layers import Bounds, Int8Linear, bounds_of, with_int8_layers
from spe_dist.models.onnx_encoder import OnnxEncoder
from spe_dist.models.plain_encoder import PlainEncoder
from spe_dist.models.sentence_encoder import SentenceEncoder, save_sentence_encoder
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
@pytest.mark.parametrize("added", [False, True])
def test_products_of_integers_are_those_written_out(added):
    torch.manual_seed(0)
    layers = [torch.nn.Linear(24, 16), torch.nn.Linear(24, 16, bias=False)]
    inputs, bounds = torch.randn(37, 24) * 3, Bounds(-4.0, 6.0)  # some lie outside
    step, zero = bounds.grid()
    read = ((inputs / step).round() + zero).clamp(0, 255).sub(zero).double() * step
    weight = torch.cat([layer.weight for layer in layers]).detach().double()
    steps = weight.abs().amax(1, keepdim=True) / 127
    wanted = read @ ((weight / steps).round() * steps).T + torch.cat([layers[0].bias.detach(), torch.zeros(16)])
    assert (wanted - torch.cat([layer(inputs) for layer in layers], dim=1)).abs().max() > 0.01  # else it shows nothing
    other = torch.randn(37, 32) if added else None
    found = Int8Linear(layers, bounds)(inputs, other)
    assert torch.allclose(found.double(), wanted + (0 if other is None else other), atol=1e-4)
    activated = Bounds(-0.2, 5.0)
    codes = Int8Linear(layers, bounds, activated=activated)(inputs)
    step, zero = activated.grid()
    exact = (torch.nn.functional.gelu(wanted) / step + zero).clamp(0, 255)
    assert codes.dtype == torch.uint8 and (codes - exact).abs().max() < 0.55


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
        assert facts(alone) == facts(together)  # steps are fixed beforehand, so what else is in the batch is not felt
        assert scores([alone]) == pytest.approx(scores([together]), abs=0.02)
    assert pickle.loads(pickle.dumps(export))(texts) == found  # noqa: S301
    with monkeypatch.context() as patched:
        patched.setattr(torch.cpu, "get_capabilities", dict)
        with pytest.raises(UserError, match="need a processor with VNNI") as error:
            Extractor.from_pretrained(out)
        assert "not a complete" not in str(error.value)
    (out / INT8).write_bytes((out / INT8).read_bytes()[:-10])
    with pytest.raises(UserError, match="is not a complete extractor"):
        Extractor.from_pretrained(out)


def test_bounds_are_of_all_that_is_read(tmp_path):
    extractor = Extractor.from_pretrained(saved(tmp_path / "model"), device="cpu")
    read = {}
    layers = extractor.sentence_encoder.model.encoder.get_submodule("layer")
    layers.get_submodule("1.output.dense").register_forward_pre_hook(
        lambda _, inputs: read.setdefault("all", []).append(inputs[0])
    )
    with bounds_of(extractor.sentence_encoder.model) as bounds:
        extractor(random_sentences(30))
        extractor([AnnotatedSentence(("Ann",)).words])
    everything = torch.cat([part.flatten() for part in read["all"]])
    assert bounds["1.output.dense"] == Bounds(min(everything.min().item(), 0), everything.max().item())
    assert len(bounds) == 12 and not layers.get_submodule("0.output.dense")._forward_pre_hooks


@needs_vnni
def test_layers_attend_within_each_sequence(monkeypatch):
    torch.manual_seed(0)
    grid = int8_attention.Grid(0.02, 100)
    lengths = (5, 1, 20, 16, 17, 33)
    starts = torch.tensor([0, *lengths]).cumsum(0).int()
    for size in (16, 32, 64):
        qkv = torch.randn(sum(lengths), 3, 2, size) * 3
        given = {"scaling": size**-0.5, "grid": grid}
        compiled = int8_attention.attend_to_steps(qkv, starts, **given)
        with monkeypatch.context() as patched:
            patched.setattr(int8_attention, "cpu_library", lambda: None)
            plain = int8_attention.attend_to_steps(qkv, starts, **given)
        apart = (compiled.int() - plain.int()).abs()
        assert apart.max() <= 1 and apart.float().mean() < 0.01  # the nearest of two is a near-tie
    with monkeypatch.context() as patched, pytest.raises(AssertionError, match="heads of 8 numbers are not compiled"):
        patched.setattr(int8_attention, "_SIZES", (8,))
        int8_attention.attend_to_steps(torch.randn(5, 3, 2, 8), starts[:2], scaling=1.0, grid=grid)
    config = CONFIGS["bert"].to_dict() | {"hidden_size": 32, "intermediate_size": 40}
    packed = pack([torch.randint(2, 40, (length,)) for length in (5, 1, 12, 3)])
    encoder = SentenceEncoder(with_int8_layers(_random_encoder(config), Everywhere()))
    assert encoder.model.attends_packed
    with torch.no_grad():
        found = encoder(packed)
        encoder.model.attends_packed = False  # padded inside the attention
        assert (found - encoder(packed)).abs().mean() < 0.02 * found.std()


class Everywhere(dict):
    """The same bounds for every layer."""

    def __missing__(self, name):
        return Bounds(-4.0, 4.0)


def _random_encoder(config):
    encoder = PlainEncoder(config)
    drawn = {name: torch.randn(weight.shape) * 0.3 for name, weight in encoder.state_dict().items()}
    encoder.load_state_dict(drawn, assign=True)
    return encoder
