"""BERT's tokenizer over a vocabulary file, and how to train one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.trainers import WordPieceTrainer

from data_shards.counted import counted
from data_shards.errors import UserError

BERT_NAMES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
SPECIAL_PIECES = tuple(BERT_NAMES.values())


@dataclass(frozen=True)
class BertSettings:
    """What `tokenizer_config.json` says of a BERT tokenizer, under its names there and with its defaults."""

    do_lower_case: bool = True
    tokenize_chinese_chars: bool = True
    strip_accents: bool | None = None
    """None: as do_lower_case."""

    @classmethod
    def defaults(cls) -> dict[str, bool | None]:
        """Default values of the settings, by name."""
        return asdict(cls())

    def effective(self, name: str) -> bool:
        """What a setting comes to."""
        value: bool | None = getattr(self, name)
        return self.do_lower_case if value is None else value


def read_vocabulary(path: Path) -> dict[str, int]:
    """{piece: id} of a file with one piece per line."""
    try:
        pieces = path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a vocabulary: invalid UTF-8: convert the file to UTF-8") from error
    vocabulary = {piece.rstrip("\r"): index for index, piece in enumerate(pieces)}
    if len(vocabulary) < len(pieces):
        raise UserError(
            f"{path}: not a vocabulary: it lists {counted(len(pieces) - len(vocabulary), 'piece')} twice: remove the "
            "repeated lines"
        )
    return vocabulary


def has_upper_case(vocabulary: Mapping[str, int], special_pieces: Collection[str] = ()) -> bool:
    """Whether any piece, but for special and bracketed ones such as [CLS], holds an upper-case letter."""
    upper = (piece for piece in vocabulary if piece != piece.lower() and piece not in special_pieces)
    return not all(piece.startswith("[") and piece.endswith("]") for piece in upper)


def wordpiece_tokenizer(vocabulary: Mapping[str, int], settings: BertSettings, *, unk: str = "[UNK]") -> Tokenizer:
    """BERT's tokenizer; special pieces are not yet marked as such."""
    tokenizer = Tokenizer(WordPiece(dict(vocabulary), unk_token=unk))
    tokenizer.normalizer = BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.tokenize_chinese_chars,
        strip_accents=settings.strip_accents,
        lowercase=settings.do_lower_case,
    )
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.decoder = WordPieceDecoder()
    return tokenizer


def train_vocabulary(texts: Iterable[str], size: int, *, lowercase: bool = True) -> list[str]:
    """Pieces of a BERT vocabulary, in the order of their ids (the lines of a `vocab.txt`). Two runs may differ.

    Args:
        texts: sentences or documents.
        size: most pieces to keep, special pieces included.
        lowercase: lower-case text and strip accents first.
    """
    specials = {piece: i for i, piece in enumerate(SPECIAL_PIECES)}
    tokenizer = wordpiece_tokenizer(specials, BertSettings(do_lower_case=lowercase))
    trainer = WordPieceTrainer(vocab_size=size, special_tokens=list(SPECIAL_PIECES), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    return sorted(vocabulary, key=vocabulary.__getitem__)
