"""A saved encoder is a good Hugging Face encoder: nothing missing, long text cut, offsets right, states ours.

`SPE_DIST_OTHER_PYTHON`, the Python of an environment with another version of transformers (4.57), adds that version.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    DebertaV2Config,
    ElectraConfig,
    ModernBertConfig,
    PretrainedConfig,
    RobertaConfig,
)

from data_shards.text.word_pieces import WordPieces
from spe_dist.models.architectures import architecture_of
from spe_dist.models.saved_encoder import (
    load_sentence_encoder_strictly,
    new_sentence_encoder,
    save_sentence_encoder,
    save_tokenizer,
)
from spe_dist.models.sentence_encoder import SentenceEncoder
from tests.unit.spe_dist.models.test_packed_attention import pack
from tests.unit.spe_dist.tiny_run import DEBUG_VOCAB

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
TEXT = "Marie Curie was born in Warsaw ."
POSITIONS = 40
CONFIGS = {
    "bert": BertConfig(**SIZES, max_position_embeddings=POSITIONS, type_vocab_size=2),
    "bert without types": BertConfig(**SIZES, max_position_embeddings=POSITIONS, type_vocab_size=1),
    "electra": ElectraConfig(**SIZES, embedding_size=8, max_position_embeddings=POSITIONS),
    "roberta": RobertaConfig(**SIZES, max_position_embeddings=POSITIONS + 2, pad_token_id=1, type_vocab_size=1),
    "modernbert": ModernBertConfig(
        **SIZES, max_position_embeddings=POSITIONS, local_attention=6, pad_token_id=0, cls_token_id=1, sep_token_id=2,
        bos_token_id=1, eos_token_id=2,
    ),
    "deberta-v3": DebertaV2Config(
        **SIZES, max_position_embeddings=POSITIONS, relative_attention=True, pos_att_type=["p2c", "c2p"],
        position_buckets=4, share_att_key=True, norm_rel_ebd="layer_norm", position_biased_input=False,
    ),
}  # fmt: skip
PYTHONS = {"this": sys.executable, "other": os.environ.get("SPE_DIST_OTHER_PYTHON")}

# What a user of the folder does. It runs outside of the project: nothing of ours is imported.
USER = """
import io, json, logging, sys
import torch
from transformers import AutoModel, AutoTokenizer, pipeline
from transformers.utils import logging as transformers_logging
said = io.StringIO()
transformers_logging.disable_default_handler()
transformers_logging.disable_progress_bar()
transformers_logging.add_handler(logging.StreamHandler(said))
text, long = sys.argv[1], "Marie " * 300
for folder in sys.argv[2:]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model, info = AutoModel.from_pretrained(folder, output_loading_info=True)
    model.eval()
    extract = pipeline("feature-extraction", model=folder, truncation=True)
    with torch.no_grad():
        states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        model(**tokenizer(long, truncation=True, return_tensors="pt"))
        model(**tokenizer(text, text, return_tensors="pt"))
    print(json.dumps({
        "max": tokenizer.model_max_length, "long": len(extract(long)[0]), "states": states.tolist(),
        "missing": [*info["missing_keys"], *info["unexpected_keys"]],
        "said": said.getvalue().replace("Device set to use cpu\\n", ""),
        "offsets": tokenizer(text, return_offsets_mapping=True)["offset_mapping"],
        "of words": tokenizer(text.split(), is_split_into_words=True, return_offsets_mapping=True)["offset_mapping"],
        "words": tokenizer(text).word_ids(), "padded": tokenizer(["a", text], padding=True)["attention_mask"][0][-1],
    }))
"""


def word_pieces_of(kind: str, folder: Path) -> WordPieces:
    if kind != "roberta":
        return WordPieces.load(str(DEBUG_VOCAB))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT] * 9, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text('{"model_type": "roberta"}')
    return WordPieces.load(str(folder))


def saved(kind: str, folder: Path) -> tuple[SentenceEncoder, WordPieces]:
    torch.manual_seed(1)
    word_pieces = word_pieces_of(kind, folder.with_name("tokenizer"))
    config: PretrainedConfig = CONFIGS[kind]
    config.vocab_size = word_pieces.vocab_size
    encoder = new_sentence_encoder(config).eval()
    folder.mkdir(parents=True)
    save_sentence_encoder(encoder, folder)
    save_tokenizer(word_pieces, encoder, folder)
    return encoder, word_pieces


@pytest.mark.parametrize("python", PYTHONS)
def test_a_user_of_the_folder_meets_no_surprise(python: str, tmp_path: Path) -> None:
    program = PYTHONS[python]
    if program is None:
        pytest.skip("SPE_DIST_OTHER_PYTHON names no other Python")
    encoders = [saved(kind, tmp_path / kind / "folder") for kind in CONFIGS]
    folders = [str(tmp_path / kind / "folder") for kind in CONFIGS]
    done = subprocess.run(
        [program, "-W", "error::UserWarning", "-c", USER, TEXT, *folders],
        capture_output=True, text=True, timeout=120, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for line, (encoder, word_pieces) in zip(done.stdout.splitlines()[-len(CONFIGS) :], encoders, strict=True):
        seen = json.loads(line)
        assert (seen["max"], seen["long"], seen["padded"]) == (POSITIONS, POSITIONS, 0)
        assert (seen["missing"], seen["said"]) == ([], "")
        check_offsets(seen)
        special, pieces = word_pieces.special_ids, word_pieces.encode_sentences([TEXT]).pieces.values.tolist()
        with torch.no_grad():
            ours = encoder(pack([torch.tensor([special.cls, *pieces, special.sep])]))
        torch.testing.assert_close(torch.tensor(seen["states"]), ours, atol=1e-5, rtol=0)


def check_offsets(seen: dict[str, Any]) -> None:
    places = seen["offsets"][1:-1]
    characters: dict[int, str] = {}
    for word, (start, end) in zip(seen["words"][1:-1], places, strict=True):
        characters[word] = characters.get(word, "") + TEXT[start:end]
    assert list(characters.values()) == TEXT.split()
    word_starts = [TEXT.rfind(" ", 0, start) + 1 for start, _ in places]
    in_words = [[start - first, end - first] for first, (start, end) in zip(word_starts, places, strict=True)]
    assert seen["of words"][1:-1] == in_words


@pytest.mark.parametrize("kind", CONFIGS)
def test_what_was_saved_is_loaded_again(kind: str, tmp_path: Path) -> None:
    encoder, word_pieces = saved(kind, tmp_path / "folder")
    again, left_out = load_sentence_encoder_strictly(str(tmp_path / "folder"), encoder.model.config)
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in encoder.state_dict().items())
    pooler = ["pooler.dense.bias", "pooler.dense.weight"]
    assert left_out == (pooler if architecture_of(encoder.model.config).pooler else [])
    assert WordPieces.load(str(tmp_path / "folder")).fingerprint == word_pieces.fingerprint
