"""Where a tokenizer comes from: a Hugging Face folder, a vocabulary file or the hub; it ends as one `tokenizer.json`.

Ids are taken from the {piece: id} mapping, never from an order of iteration.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.processors import BertProcessing, RobertaProcessing

from data_shards.errors import UserError
from data_shards.hub import fetch
from data_shards.tokenizer.folder import FILES, parse_tokenizer, read_folder, special_pieces
from data_shards.tokenizer.wordpiece import BertSettings, has_upper_case, read_vocabulary, wordpiece_tokenizer

DEBUG = "debug"
DEBUG_VOCABULARY = Path(__file__).parents[1] / "debug_vocab.txt"


@dataclass(frozen=True)
class SpecialIds:
    """Piece ids with a meaning of their own."""

    cls: int
    sep: int
    mask: int
    pad: int
    unk: int


@dataclass(frozen=True)
class TokenizerFiles:
    """A tokenizer as text: what `tokenizer.json` holds, and the special pieces by role (pad, unk, cls, sep, mask)."""

    tokenizer_json: str
    special_pieces: Mapping[str, str]

    def config_json(self, *, max_pieces: int | None = None, token_types: bool = True) -> str:
        """What `tokenizer_config.json` holds, so that `AutoTokenizer.from_pretrained` gives the same tokenizer.

        Args:
            max_pieces: of the encoder beside it, special pieces included: what `truncation=True` cuts to.
            token_types: whether that encoder has a type for the second of two sentences.
        """
        config: dict[str, object] = {"tokenizer_class": "PreTrainedTokenizerFast"}
        config |= {f"{role}_token": piece for role, piece in self.special_pieces.items()}
        inputs = ["input_ids", "token_type_ids", "attention_mask"]
        config["model_input_names"] = inputs if token_types else [inputs[0], inputs[2]]
        if _set_prefix_space(json.loads(self.tokenizer_json)):
            config["add_prefix_space"] = True  # transformers 4 sets what tokenizer.json says to this, or to false
        if max_pieces is not None:
            config["model_max_length"] = max_pieces
        return json.dumps(config, indent=2) + "\n"

    @property
    def special_ids(self) -> SpecialIds:
        """The ids of the special pieces."""
        vocabulary = Tokenizer.from_str(self.tokenizer_json).get_vocab(with_added_tokens=True)
        return SpecialIds(**{role: vocabulary[piece] for role, piece in self.special_pieces.items()})


def load_tokenizer_files(source: str, *, lowercase: bool | None = None) -> TokenizerFiles:
    """Read a tokenizer from a folder, a vocabulary file (`.txt`), a `tokenizer.json`, or the hub.

    Args:
        source: a path, the name of a model on the hub, or `debug`: the vocabulary that comes with the project.
        lowercase: for vocabulary files: lower-case text (and strip accents) or not; if not given, decided by whether
            any piece holds an upper-case letter.

    Raises:
        UserError: nothing there, not a tokenizer, or a special piece (such as the mask) is missing.
    """
    path = DEBUG_VOCABULARY if source == DEBUG and not Path(DEBUG).exists() else Path(source)
    if path.is_dir():
        return _finish(*read_folder(path, lowercase, source))
    if path.suffix == ".txt" and path.is_file():
        return _read_vocabulary_file(path, lowercase)
    if path.suffix == ".json" and path.is_file():
        if lowercase is not None:
            raise UserError(f"{source}: lowercase can be set for a vocabulary file only; a tokenizer.json decides it")
        tokenizer = parse_tokenizer(path)
        return _finish(tokenizer, special_pieces(tokenizer, {}, source))
    if path.exists() or path.is_absolute() or source.startswith(".") or path.suffix in (".txt", ".json"):
        raise UserError(f"{source}: no tokenizer there: name a folder with tokenizer.json, a vocab.txt, or a hub model")
    return _finish(*read_folder(fetch(source, FILES, what="tokenizer"), lowercase, source))


def _read_vocabulary_file(path: Path, lowercase: bool | None) -> TokenizerFiles:
    vocabulary = read_vocabulary(path)
    lowercase = not has_upper_case(vocabulary) if lowercase is None else lowercase
    tokenizer = wordpiece_tokenizer(vocabulary, BertSettings(do_lower_case=lowercase))
    specials = special_pieces(tokenizer, {}, str(path))
    tokenizer.add_special_tokens(list(specials.values()))
    return _finish(tokenizer, specials)


def _finish(tokenizer: Tokenizer, specials: Mapping[str, str]) -> TokenizerFiles:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    byte_level = _set_prefix_space(json.loads(tokenizer.to_str()))
    if not tokenizer.num_special_tokens_to_add(is_pair=False):
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        sep, cls = ((specials[role], vocabulary[specials[role]]) for role in ("sep", "cls"))
        tokenizer.post_processor = (RobertaProcessing if byte_level else BertProcessing)(sep, cls)
    document = json.loads(tokenizer.to_str())
    _set_prefix_space(document)
    return TokenizerFiles(json.dumps(document, ensure_ascii=False, separators=(",", ":")), specials)


def _set_prefix_space(document: Mapping[str, Any]) -> bool:
    """Byte-level pieces know a word's start by the space before it, which words given one by one do not have.

    The post-processor must know too, or it takes a character for that space. True: there are such pieces.
    """
    pre_tokenizer, post_processor = document["pre_tokenizer"] or {}, document["post_processor"] or {}
    byte_level = [one for one in (pre_tokenizer, *pre_tokenizer.get("pretokenizers", ())) if _is(one, "ByteLevel")]
    if byte_level:
        processors = (post_processor, *post_processor.get("processors", ()))
        for part in (*byte_level, *(one for one in processors if _is(one, "ByteLevel", "RobertaProcessing"))):
            part["add_prefix_space"] = True
    return bool(byte_level)


def _is(part: Mapping[str, Any], *types: str) -> bool:
    return part.get("type") in types
