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
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import BertProcessing

from data_shards.errors import UserError

_USUAL_NAMES = {
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<s>"),
    "sep": ("[SEP]", "</s>"),
    "mask": ("[MASK]", "<mask>"),
}
SPECIAL_PIECES = tuple(names[0] for names in _USUAL_NAMES.values())


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

    @property
    def config_json(self) -> str:
        """What `tokenizer_config.json` holds, so that `AutoTokenizer.from_pretrained` gives the same tokenizer."""
        config = {"tokenizer_class": "PreTrainedTokenizerFast"}
        config |= {f"{role}_token": piece for role, piece in self.special_pieces.items()}
        return json.dumps(config, indent=2) + "\n"

    @property
    def special_ids(self) -> SpecialIds:
        """The ids of the special pieces."""
        vocabulary = Tokenizer.from_str(self.tokenizer_json).get_vocab(with_added_tokens=True)
        return SpecialIds(**{role: vocabulary[piece] for role, piece in self.special_pieces.items()})


def load_tokenizer_files(source: str, *, lowercase: bool | None = None) -> TokenizerFiles:
    """Read a tokenizer from a folder, a vocabulary file (`.txt`), a `tokenizer.json`, or the hub.

    Args:
        source: a path or the name of a model on the hub.
        lowercase: for vocabulary files: lower-case text (and strip accents) or not; if not given, decided by whether
            any piece holds an upper-case letter.

    Raises:
        UserError: nothing there, not a tokenizer, or a special piece (such as the mask) is missing.
    """
    path = Path(source)
    if path.is_dir():
        return _load_folder(path, lowercase)
    if path.suffix == ".txt" and path.is_file():
        return _load_vocabulary(path, lowercase, {})
    if lowercase is not None:
        raise UserError(
            f"{source}: lowercase can be set for a vocabulary file only; a tokenizer.json decides it itself"
        )
    if path.suffix == ".json" and path.is_file():
        return _finish(_parse(path), {}, source)
    if path.exists() or path.is_absolute() or source.startswith(".") or path.suffix in (".txt", ".json"):
        raise UserError(f"{source}: no tokenizer there: name a folder with tokenizer.json, a vocab.txt, or a hub model")
    return _finish(_fetch(source), {}, source)


def _load_folder(folder: Path, lowercase: bool | None) -> TokenizerFiles:
    settings = _read_settings(folder)
    if (folder / "tokenizer.json").is_file():
        if lowercase is not None:
            raise UserError(f"{folder}: lowercase can be set for a vocabulary file only; tokenizer.json decides it")
        return _finish(_parse(folder / "tokenizer.json"), settings, str(folder))
    if (folder / "vocab.txt").is_file():
        decided = settings.get("do_lower_case") if lowercase is None else lowercase
        return _load_vocabulary(folder / "vocab.txt", decided, settings)
    raise UserError(f"{folder} holds no tokenizer: neither tokenizer.json nor vocab.txt is there")


def _read_settings(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return {}
    try:
        settings = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error})") from error
    return settings if isinstance(settings, dict) else {}


def _parse(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises plain Exception
        raise UserError(f"{path}: not a tokenizer that this version of `tokenizers` reads ({error})") from error


def _fetch(name: str) -> Tokenizer:
    try:
        return Tokenizer.from_pretrained(name)
    except Exception as error:  # tokenizers raises plain Exception for network, name and format alike
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"tokenizer {name!r} is neither a file or folder here nor could it be fetched from the hub ({reason})"
        ) from error


def _load_vocabulary(path: Path, lowercase: bool | None, settings: Mapping[str, Any]) -> TokenizerFiles:
    vocabulary = read_vocabulary(path)
    if lowercase is None:
        lowercase = not has_upper_case(vocabulary)
    return _finish(wordpiece_tokenizer(vocabulary, lowercase=lowercase), settings, str(path))


def read_vocabulary(path: Path) -> dict[str, int]:
    """{piece: id} of a file with one piece per line."""
    try:
        pieces = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a vocabulary: invalid UTF-8") from error
    vocabulary = {piece.rstrip("\r"): index for index, piece in enumerate(pieces)}
    if len(vocabulary) < len(pieces):
        raise UserError(f"{path}: not a vocabulary: {len(pieces) - len(vocabulary)} pieces occur twice")
    missing = [piece for piece in SPECIAL_PIECES if piece not in vocabulary]
    if missing:
        raise UserError(f"{path}: not a BERT vocabulary: no piece {', '.join(missing)}")
    return vocabulary


def has_upper_case(vocabulary: Mapping[str, int]) -> bool:
    """Whether any piece, but for bracketed ones such as [CLS], holds an upper-case letter."""
    return any(piece != piece.lower() for piece in vocabulary if not (piece.startswith("[") and piece.endswith("]")))


def wordpiece_tokenizer(vocabulary: Mapping[str, int], *, lowercase: bool) -> Tokenizer:
    """BERT's tokenizer over a vocabulary."""
    tokenizer = Tokenizer(WordPiece(dict(vocabulary), unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.decoder = WordPieceDecoder()
    tokenizer.add_special_tokens(list(SPECIAL_PIECES))
    return tokenizer


def _finish(tokenizer: Tokenizer, settings: Mapping[str, Any], source: str) -> TokenizerFiles:
    specials = _find_special_pieces(tokenizer, settings, source)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if tokenizer.post_processor is None:
        vocabulary = tokenizer.get_vocab(with_added_tokens=True)
        sep, cls = ((specials[role], vocabulary[specials[role]]) for role in ("sep", "cls"))
        tokenizer.post_processor = BertProcessing(sep, cls)
    document = json.loads(tokenizer.to_str())
    _set_prefix_space(document.get("pre_tokenizer"))
    return TokenizerFiles(json.dumps(document, ensure_ascii=False, separators=(",", ":")), specials)


def _find_special_pieces(tokenizer: Tokenizer, settings: Mapping[str, Any], source: str) -> dict[str, str]:
    found = {}
    for role, usual in _USUAL_NAMES.items():
        given = settings.get(f"{role}_token")
        given = given.get("content") if isinstance(given, dict) else given
        candidates = (given,) if given else usual
        piece = next((piece for piece in candidates if tokenizer.token_to_id(piece) is not None), None)
        if piece is None:
            raise UserError(f"{source}: the tokenizer has no {role} piece (looked for {', '.join(candidates)})")
        found[role] = piece
    return found


def _set_prefix_space(pre_tokenizer: dict[str, Any] | None) -> None:
    """Byte-level pieces know a word's start by the space before it, which words given one by one do not have."""
    for part in [pre_tokenizer, *(pre_tokenizer or {}).get("pretokenizers", [])]:
        if part and part["type"] == "ByteLevel":
            part["add_prefix_space"] = True
