"""Training a WordPiece vocabulary on a corpus. Not deterministic across runs: keep the file, not the command."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers.trainers import WordPieceTrainer

from data_shards.tokenizer.wordpiece import SPECIAL_PIECES, BertSettings, wordpiece_tokenizer


def train_vocabulary(texts: Iterable[str], size: int, *, lowercase: bool = True) -> list[str]:
    """Pieces of a BERT vocabulary, in the order of their ids (the lines of a `vocab.txt`).

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
