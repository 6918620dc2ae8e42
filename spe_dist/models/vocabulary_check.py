"""Do an encoder and the shards mean the same by a piece id?"""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer

from data_shards.counted import counted
from data_shards.errors import UserError


def require_same_vocabulary(encoder: str, shards_tokenizer: Path) -> None:
    """Compare the vocabularies of an encoder's tokenizer and of the shards' tokenizer.

    An encoder without tokenizer files is let through: only its number of pieces can be checked.

    Raises:
        UserError: they differ; says in how many pieces and how to rebuild.
    """
    try:
        theirs = AutoTokenizer.from_pretrained(encoder, trust_remote_code=False).get_vocab()
    except (OSError, ValueError, ImportError):
        return
    ours = AutoTokenizer.from_pretrained(shards_tokenizer, trust_remote_code=False).get_vocab()
    different = {piece for piece, _ in theirs.items() ^ ours.items()}
    if different:
        raise UserError(
            f"encoder {encoder} and the shards have different vocabularies (they differ in "
            f"{counted(len(different), 'piece')}, such as {min(different)!r}): build the shards with "
            f"--tokenizer {encoder}"
        )
