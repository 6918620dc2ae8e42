"""A trained model for people: text and marked spans in, vectors out.

model = SpanPairModel.from_pretrained("runs/debug/export")
result = model.encode("Marie Curie was born in Warsaw .", pairs=[("Marie Curie", "Warsaw")])
result.pairs                                                                        # [1, pair size]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig

from data_shards.errors import UserError
from data_shards.text.word_pieces import WordPieces
from spe_dist.export.export_format import SPAN_PAIR_WEIGHTS, Description
from spe_dist.export.marked_text import MarkedText, Span, WordSpan
from spe_dist.export.packed_texts import pack_texts, pack_word_spans
from spe_dist.models.from_sizes import pair_encoder_of, span_encoder_of
from spe_dist.models.projection_head import ProjectionHead
from spe_dist.models.sentence_encoder import (
    SentenceEncoder,
    load_sentence_encoder,
    save_sentence_encoder,
    save_tokenizer,
)

_SPECIALS = 2  # [CLS] and [SEP]
Pair = tuple[Span, Span]


@dataclass(frozen=True)
class SpanVectors:
    """Vectors of a text's spans and span pairs, fp32."""

    spans: Tensor  # [spans, span size]
    pairs: Tensor  # [pairs, span size], or [pairs, D] in the space of contrast


class SpanPairModel(nn.Module):
    """Sentence encoder, span encoder, span pair encoder and projection head, without the heads of pre-training.

    Args:
        description: sizes and limits.
        sentence_encoder: with "packed" attention.
        word_pieces: cuts text as the shards were cut.
    """

    def __init__(self, description: Description, sentence_encoder: SentenceEncoder, word_pieces: WordPieces) -> None:
        super().__init__()
        self.description, self.word_pieces = description, word_pieces
        self.sentence_encoder = sentence_encoder
        self.span_encoder = self.context_encoder = self.pair_encoder = self.head = None
        hidden, span, pair = sentence_encoder.hidden_size, description.span_encoder, description.pair_encoder
        context = description.context_encoder
        if span is not None:
            self.span_encoder = span_encoder_of(span, hidden, dropout=0.0)
        if context is not None:
            self.context_encoder = span_encoder_of(context, hidden, dropout=0.0)
        if span is not None and pair is not None:
            self.pair_encoder = pair_encoder_of(pair, hidden, span=span, context=context or span, dropout=0.0)
        if span is not None and description.head_size is not None:
            self.head = ProjectionHead(span.size, description.head_size, dropout=0.0)
        self.eval()

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> SpanPairModel:
        """Load what `spe export` wrote, ready to encode; `.to("cuda")` moves it to a GPU.

        Raises:
            UserError: not an exported model, or one that this version does not read.
        """
        folder = Path(folder)
        description = Description.load(folder)
        word_pieces = WordPieces.load(str(folder), language=description.language)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        model = cls(description, load_sentence_encoder(str(folder), config), word_pieces)
        try:
            weights = load_file(folder / SPAN_PAIR_WEIGHTS)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{folder / SPAN_PAIR_WEIGHTS} cannot be read ({error}): export the run again") from error
        for name, part in model._span_pair_parts().items():
            part.load_state_dict(
                {k.removeprefix(f"{name}."): v for k, v in weights.items() if k.startswith(f"{name}.")}
            )
        return model.requires_grad_(False).eval()

    def save_pretrained(self, folder: Path) -> None:
        """Write everything that `from_pretrained`, `AutoModel` and `AutoTokenizer` read into an existing folder."""
        save_sentence_encoder(self.sentence_encoder, folder)
        parts = self._span_pair_parts().items()
        weights = {f"{name}.{key}": value for name, part in parts for key, value in part.state_dict().items()}
        save_file({key: value.contiguous() for key, value in weights.items()}, folder / SPAN_PAIR_WEIGHTS)
        save_tokenizer(self.word_pieces, self.sentence_encoder, folder)
        self.description.save(folder)

    def encode(
        self, text: str, *, spans: Sequence[Span] = (), pairs: Sequence[Pair] = (), project: bool = False
    ) -> SpanVectors:
        """Vectors of spans and span pairs of one text; see `encode_batch`."""
        return self.encode_batch([text], spans=[spans], pairs=[pairs], project=project)[0]

    @torch.no_grad()
    def encode_batch(
        self,
        texts: Sequence[str],
        *,
        spans: Sequence[Sequence[Span]] | None = None,
        pairs: Sequence[Sequence[Pair]] | None = None,
        project: bool = False,
    ) -> list[SpanVectors]:
        """Vectors of spans and span pairs of many texts, in one forward pass without padding.

        A span is given by its text, if that occurs once, or by its characters (start, end), half-open. It must be made
        of whole words. A pair's vector tells which of its spans comes first in the text, not which was named first:
        pairs in reverse order are encoded in text order. All five spans of a pair are read from the whole text, nothing
        is masked as in pre-training. On a GPU, layers compute in bf16.

        Args:
            texts: each a sentence, of at most `description.max_pieces` pieces.
            spans: of each text.
            pairs: of each text; the two spans of a pair must not overlap.
            project: give pairs in the space of contrast (projection head, length 1), where pre-training compared them.

        Returns:
            spans [spans, span size] and pairs [pairs, span size] of each text.

        Raises:
            UserError: a text is too long, a span is not one, a pair overlaps, or the model was not trained for it.
        """
        marked = [self._mark(text) for text in texts]
        word_spans = [[m.word_span(s) for s in given] for m, given in _per_text(marked, spans, "spans")]
        word_pairs = [[m.five_spans(*p) for p in given] for m, given in _per_text(marked, pairs, "pairs")]
        if self.span_encoder is None or (self.pair_encoder is None and any(word_pairs)):
            missing = "spans" if self.span_encoder is None else "span pairs"
            raise UserError(f"this model encodes no {missing}: none of its run's objectives trained that")
        device = self.sentence_encoder.word_embeddings.weight.device
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=device.type == "cuda"):
            span_vectors, pair_vectors = self._forward(marked, word_spans, word_pairs, device)
            pair_vectors = self.project(pair_vectors) if project else pair_vectors
        per_text = (
            v.float().split([len(given) for given in counted])
            for v, counted in ((span_vectors, word_spans), (pair_vectors, word_pairs))
        )
        return [SpanVectors(*vectors) for vectors in zip(*per_text, strict=True)]

    def _mark(self, text: str) -> MarkedText:
        marked, longest = MarkedText.of(text, self.word_pieces), self.description.max_pieces
        length = len(marked.piece_ids) + _SPECIALS
        if length > longest:
            raise UserError(
                f"a text has {length} pieces with [CLS] and [SEP], and this model was trained on at most {longest}: "
                f"split it into sentences ({text[:40]!r}...)"
            )
        return marked

    def _forward(
        self,
        marked: Sequence[MarkedText],
        word_spans: Sequence[Sequence[WordSpan]],
        word_pairs: Sequence[Sequence[Sequence[WordSpan]]],
        device: torch.device,
    ) -> tuple[Tensor, Tensor]:
        """Vectors of all spans [N, span size] and of all pairs [M, span size] of all texts."""
        assert self.span_encoder is not None
        packed, word_pieces = pack_texts(marked, self.word_pieces.special_ids)
        states = self.sentence_encoder(packed.to(device))
        singles = pack_word_spans(marked, word_spans, shape=(2,)).to(device)
        fives = pack_word_spans(marked, word_pairs, shape=(5, 2)).to(device)
        words, pairs, around = states[word_pieces.to(device)], fives[:, 1::2], fives[:, ::2]
        starts, ends = torch.cat([singles, pairs.flatten(0, 1)]).unbind(1)
        spans, of_pairs = self.span_encoder(words, starts, ends).split([len(singles), 2 * len(fives)])
        if self.pair_encoder is None:
            return spans, spans[:0]
        starts, ends = around.flatten(0, 1).unbind(1)
        contexts = (self.context_encoder or self.span_encoder)(words, starts, ends)
        texts = torch.tensor([row for row, given in enumerate(word_pairs) for _ in given], dtype=torch.int64)
        sentences = states[packed.sequence_starts[:-1][texts].to(device)]
        of_pairs, contexts = of_pairs.unflatten(0, (len(fives), 2)), contexts.unflatten(0, (len(fives), 3))
        empty = around[..., 0] == around[..., 1]
        return spans, self.pair_encoder.from_parts(of_pairs, contexts, sentences, empty=empty)

    def project(self, pairs: Tensor) -> Tensor:
        """Pair vectors in the space of contrast, where pre-training compared them, [M, D]."""
        projected = pairs if self.head is None else self.head(pairs)
        return nn.functional.normalize(projected.float(), dim=1) if self.description.normalize else projected

    def _span_pair_parts(self) -> dict[str, nn.Module]:
        names = ("span_encoder", "context_encoder", "pair_encoder", "head")
        parts = {name: getattr(self, name) for name in names}
        return {name: part for name, part in parts.items() if part is not None}


def _per_text(marked: Sequence[MarkedText], given: Sequence | None, what: str) -> list[tuple[MarkedText, Sequence]]:
    """Each text with its spans or pairs."""
    given = [()] * len(marked) if given is None else given
    if len(given) != len(marked) or any(isinstance(of_text, str) for of_text in given):
        raise UserError(f"{what}: give one list for each of the {len(marked)} texts")
    return list(zip(marked, given, strict=True))
