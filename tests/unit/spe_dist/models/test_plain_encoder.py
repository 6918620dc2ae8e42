"""The encoder without transformers gives the states of the one with it, and leaves to it what it does not know."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from spe_dist.models.packed_attention import AttentionRows
from spe_dist.models.plain_encoder import load_plain_encoder
from spe_dist.models.saved_encoder import load_saved_encoder, load_to_predict, save_sentence_encoder
from tests.unit.spe_dist.models.test_packed_attention import CONFIGS, encoder_and_its_padded_twin, pack


def saved(kind, folder):
    encoder, _ = encoder_and_its_padded_twin(kind)
    with torch.no_grad():  # new ones have the same rows in many places
        for weight in encoder.model.parameters():
            weight.normal_(std=0.5)
    save_sentence_encoder(encoder, folder)
    return folder


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [kind for kind in CONFIGS if not kind.startswith(("modernbert", "deberta"))])
def test_states_are_those_of_transformers_to_the_last_bit(kind, precision, tmp_path):
    folder = saved(kind, tmp_path)
    theirs, ours = load_saved_encoder(folder).eval().to(precision), load_to_predict(folder).to(precision)
    assert type(ours.model) is not type(theirs.model)
    assert ours.state_dict().keys() == theirs.state_dict().keys() and ours.max_pieces == theirs.max_pieces
    packed = pack([torch.randint(2, 40, (length,)) for length in (5, 1, 9, 3)])
    packed = replace(packed, segments=(torch.arange(18) % 2) if kind != "roberta" else None)
    added = torch.randn(18, ours.word_embeddings.embedding_dim, dtype=precision)
    rows = AttentionRows(torch.tensor([1, 5, 16]), (1, 1, 0, 1), (5, 1, 9, 3))
    with torch.no_grad():
        for vectors in (None, added):
            assert torch.equal(ours(packed, added=vectors), theirs(packed, added=vectors))
        for one, other in zip(
            ours.with_attention(packed, rows)[1], theirs.with_attention(packed, rows)[1], strict=True
        ):
            assert torch.equal(one, other)


@pytest.mark.parametrize(
    "change",
    [{"model_type": "modernbert"}, {"hidden_act": "relu"}, {"is_decoder": True}, {"num_attention_heads": 3},
     {"num_hidden_layers": 1}, {"layer_norm_eps": None}, {"position_embedding_type": "relative_key"}],
    ids=str,
)  # fmt: skip
def test_what_it_does_not_know_is_left_to_transformers(change, tmp_path):
    folder = saved("bert", tmp_path)
    assert load_plain_encoder(folder) is not None
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(
        json.dumps({name: value for name, value in config.items() if value is not None})
    )
    assert load_plain_encoder(folder) is None


def test_predicting_imports_no_transformers(tmp_path):
    code = (
        "import sys; from pathlib import Path; from spe_dist.models.saved_encoder import load_to_predict\n"
        f"load_to_predict(Path({str(saved('bert', tmp_path))!r})); assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
