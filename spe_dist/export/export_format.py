"""The files of an exported model, and what `spe_dist.json` says.

config.json, model.safetensors         the sentence encoder, as `transformers.AutoModel` loads it
tokenizer.json, tokenizer_config.json  the shards' tokenizer, as `transformers.AutoTokenizer` loads it
span_pair.safetensors, spe_dist.json   span encoder, span pair encoder and head, and all that rebuilds them
README.md                              the model card
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from data_shards.errors import UserError
from spe_dist.config import STRICT, Positive
from spe_dist.methods.run_summary import MaskUnit, Pooling
from spe_dist.models.sizes import EntityPairEncoderSizes, PairEncoderSizes, SpanEncoderSizes

FORMAT_VERSION = 1
DESCRIPTION, SPAN_PAIR_WEIGHTS, MODEL_CARD = "spe_dist.json", "span_pair.safetensors", "README.md"

Weights = Literal["query", "momentum"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Description:
    """What, besides the sentence encoder's own configuration, rebuilds a model."""

    method: str
    weights: Weights
    """Which weights: those of the trained encoder (query) or those of its moving average (momentum)."""
    step: int
    """Updates the weights have seen."""
    max_pieces: Positive
    """Longest sequence of the training data, [CLS] and [SEP] included; positions beyond were not trained."""
    language: str
    """Whose rules cut text into words (a spaCy language code)."""
    span_encoder: SpanEncoderSizes | None
    """None: no objective of the run trained one."""
    context_encoder: SpanEncoderSizes | None = None
    """Encoder of the left, middle and right context; None: the span encoder encodes them too."""
    pair_encoder: PairEncoderSizes | EntityPairEncoderSizes | None
    """None: no objective of the run trained one."""
    head_size: Positive | None
    """Size of a vector in the space of contrast; None without projection head."""
    normalize: bool
    """Whether vectors in the space of contrast have length 1."""
    pooling: Pooling | None = None
    """How spans, which no span encoder reads then, become vectors; a pair's vector is [first ; second]."""
    markers: bool = False
    """Whether ERICA's entity markers stand in the word embeddings, behind the tokenizer's vocabulary."""
    mask_unit: MaskUnit = "piece"
    """What became one [MASK] in the views of contrast."""
    format_version: int = FORMAT_VERSION

    def save(self, folder: Path) -> None:
        """Write `spe_dist.json`."""
        values = asdict(self)
        for name, usual in (("pooling", None), ("markers", False), ("mask_unit", "piece")):
            if values[name] == usual:  # earlier versions, which know no such fields, read the file too
                del values[name]
        (folder / DESCRIPTION).write_text(json.dumps(values, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Description:
        """Read `spe_dist.json`.

        Raises:
            UserError: there is none, or this version does not read it.
        """
        try:
            values = json.loads((folder / DESCRIPTION).read_text())
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(
                f"{folder} is not an exported model: no {DESCRIPTION} there; make one with: spe export RUN"
            ) from error
        except (ValueError, RecursionError) as error:
            raise UserError(f"{folder / DESCRIPTION}: not valid JSON ({error}): export the run again") from error
        version = values.get("format_version") if isinstance(values, dict) else None
        if version != FORMAT_VERSION:
            raise UserError(
                f"{folder / DESCRIPTION}: format version {version}, this program reads {FORMAT_VERSION}: "
                "export the run again with this version of spe_dist"
            )
        try:
            return TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise UserError(f"{folder / DESCRIPTION}: malformed at {place}: {first['msg']}: export again") from error
