"""A trained model for people: text and marked spans in, vectors out.

model = SpanPairModel.from_pretrained("runs/debug/export")
result = model.encode("Marie Curie was born in Warsaw .", pairs=[("Marie Curie", "Warsaw")])
result.pairs                                                                        # [1, pair size]

Runs without a span encoder have vectors that are means of states (`description.pooling`); these also encode documents:

text = "Marie Curie was born in Warsaw. Curie went to Paris."
(result,) = model.encode_documents([text], entities=[[["Marie Curie", (32, 37)], ["Warsaw"]]], pairs=[[(0, 1)]])
result.entities                                                                     # [2, hidden size]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from data_shards.errors import UserError
from data_shards.hub import fetch_model
from data_shards.text.word_pieces import WordPieces
from spe_dist.documents.pooled_vectors import PooledForwards, PooledText
from spe_dist.export.export_format import SPAN_PAIR_WEIGHTS, Description
from spe_dist.export.marked_document import DocumentText, Mention, pooled_document, pooled_spans
from spe_dist.export.marked_text import MarkedText, Span, WordSpan
from spe_dist.export.packed_texts import pack_texts, pack_word_spans
from spe_dist.models.from_sizes import pair_encoder_of, span_encoder_of
from spe_dist.models.projection_head import ProjectionHead
from spe_dist.models.saved_encoder import load_saved_encoder, save_sentence_encoder, save_tokenizer
from spe_dist.models.sentence_encoder import SentenceEncoder

_SPECIALS = 2  # [CLS] and [SEP]
Pair = tuple[Span, Span]
_Text = TypeVar("_Text")


@dataclass(frozen=True)
class SpanVectors:
    """Vectors of a text's spans and span pairs, fp32."""

    spans: Tensor  # [spans, span size]
    pairs: Tensor  # [pairs, span size], or [pairs, D] in the space of contrast


@dataclass(frozen=True)
class DocumentVectors:
    """Vectors of a document's entities and entity pairs, fp32."""

    entities: Tensor  # [entities, H]
    pairs: Tensor  # [pairs, 2 H]


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
    def from_pretrained(
        cls, model: str | Path, *, revision: str | None = None, token: str | None = None
    ) -> SpanPairModel:
        """Load what `spe export` wrote or `spe push` uploaded, ready to encode; `.to("cuda")` moves it to a GPU.

        Args:
            model: a folder, or USER/MODEL on the Hugging Face hub; what was downloaded is kept (HF_HOME).
            revision: revision of a model on the hub: a branch, tag or commit.
            token: for the hub; that of HF_TOKEN or of `hf auth login` if not given.

        Raises:
            UserError: not an exported model, one that this version does not read, or one that the hub does not give.
        """
        folder = fetch_model(model, SPAN_PAIR_WEIGHTS, revision=revision, token=token)
        description = Description.load(folder)
        word_pieces = WordPieces.load(str(folder), language=description.language)
        loaded = cls(description, load_saved_encoder(folder), word_pieces)
        try:
            weights = load_file(folder / SPAN_PAIR_WEIGHTS)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{folder / SPAN_PAIR_WEIGHTS} cannot be read ({error}): export the run again") from error
        for name, part in loaded._span_pair_parts().items():
            part.load_state_dict(
                {k.removeprefix(f"{name}."): v for k, v in weights.items() if k.startswith(f"{name}.")}
            )
        return loaded.requires_grad_(False).eval()

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

        Of a model whose vectors are pooled (`description.pooling`), a span's vector is the mean of its pieces' states,
        and a pair's is [first ; second] in the order in which they are named, for there a pair has a direction.

        Args:
            texts: each a sentence, of at most `description.max_pieces` pieces.
            spans: spans of each text.
            pairs: pairs of each text; the two spans of a pair must not overlap.
            project: give pairs in the space of contrast (projection head, length 1), where pre-training compared them.

        Returns:
            spans [spans, span size] and pairs [pairs, span size] of each text; pooled, [spans, H] and [pairs, 2 H].

        Raises:
            UserError: a text is too long, a span is not one, a pair overlaps, or the model was not trained for it.
        """
        marked = [self._mark(text) for text in texts]
        word_spans = [[m.word_span(s) for s in given] for m, given in _per_text(marked, spans, "spans")]
        if self.description.pooling is not None:
            of_pairs = _per_text(marked, pairs, "pairs")
            ends = [[(m.word_span(a), m.word_span(b)) for a, b in given] for m, given in of_pairs]
            return self._pooled_spans(marked, word_spans, ends, project=project)
        word_pairs = [[m.five_spans(*p) for p in given] for m, given in _per_text(marked, pairs, "pairs")]
        if self.span_encoder is None or (self.pair_encoder is None and any(word_pairs)):
            missing = "spans" if self.span_encoder is None else "span pairs"
            raise UserError(f"this model encodes no {missing}: none of its run's objectives trained that")
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=self._device.type == "cuda"):
            span_vectors, pair_vectors = self._forward(marked, word_spans, word_pairs, self._device)
            pair_vectors = self.project(pair_vectors) if project else pair_vectors
        per_text = (
            v.float().split([len(given) for given in counted])
            for v, counted in ((span_vectors, word_spans), (pair_vectors, word_pairs))
        )
        return [SpanVectors(*vectors) for vectors in zip(*per_text, strict=True)]

    @torch.no_grad()
    def encode_documents(
        self,
        documents: Sequence[DocumentText],
        *,
        entities: Sequence[Sequence[Sequence[Mention]]],
        pairs: Sequence[Sequence[tuple[int, int]]] | None = None,
    ) -> list[DocumentVectors]:
        """Vectors of entities and entity pairs of documents, for models whose vectors are pooled.

        An entity's vector is the mean of its mentions' vectors, and a mention's that of its pieces' states. A pair's
        is [head ; tail].

        Args:
            documents: each a text, or sentences of words, of at most `description.max_pieces` pieces.
            entities: of each document, each a list of mentions. A mention is a span as `encode_batch` takes it; in
                sentences of words (sentence, first word, word after the last), counted from 0.
            pairs: pairs of each document, each the numbers of two of its entities, head and tail.

        Returns:
            entities [entities, H] and pairs [pairs, 2 H] of each document.

        Raises:
            UserError: a document is too long, a mention is not one, an entity has none, a pair names an entity that is
                not there, or the model has a span encoder instead.
        """
        if self.description.pooling is None:
            raise UserError("this model's vectors are not pooled, so it encodes no documents: encode single sentences")
        of_entities, of_pairs = _per_text(documents, entities, "entities"), _per_text(documents, pairs, "pairs")
        texts: list[PooledText] = []
        numbers: list[Tensor] = []
        for (document, of_document), (_, given) in zip(of_entities, of_pairs, strict=True):
            where = f"document {len(texts)}"
            text = pooled_document(document, of_document, self.word_pieces, where=where)
            self._check_length(len(text.piece_ids), where)
            for one in given:
                if len(one) != 2 or not all(0 <= entity < text.size for entity in one):
                    raise UserError(
                        f"{where}: pair {one!r}: name two of its {text.size} entities by their numbers, from 0 on"
                    )
            texts.append(text)
            numbers.append(torch.tensor(given, dtype=torch.int64, device=self._device).reshape(-1, 2))
        vectors = zip(self._pooled(texts), numbers, strict=True)
        return [DocumentVectors(of_text, of_text[heads_and_tails].flatten(1)) for of_text, heads_and_tails in vectors]

    def _pooled_spans(
        self,
        marked: Sequence[MarkedText],
        word_spans: Sequence[Sequence[WordSpan]],
        word_pairs: Sequence[Sequence[Sequence[WordSpan]]],
        *,
        project: bool,
    ) -> list[SpanVectors]:
        """Vectors of spans, and of pairs of spans in the order given."""
        texts = [
            pooled_spans(text.pieces, [[span] for span in (*spans, *(span for pair in pairs for span in pair))])
            for text, spans, pairs in zip(marked, word_spans, word_pairs, strict=True)
        ]
        results = []
        for vectors, spans, pairs in zip(self._pooled(texts), word_spans, word_pairs, strict=True):
            of_pairs = vectors[len(spans) :].reshape(len(pairs), 2 * vectors.shape[1])
            results.append(SpanVectors(vectors[: len(spans)], self.project(of_pairs) if project else of_pairs))
        return results

    def _pooled(self, texts: Sequence[PooledText]) -> list[Tensor]:
        """The vectors of each text."""
        vectors = PooledForwards.pack(texts, self.word_pieces.special_ids).vectors(self.sentence_encoder)
        return list(vectors.split([text.size for text in texts]))

    @property
    def _device(self) -> torch.device:
        return self.sentence_encoder.word_embeddings.weight.device

    def _mark(self, text: str) -> MarkedText:
        marked = MarkedText.of(text, self.word_pieces)
        self._check_length(len(marked.piece_ids), f"a text ({text[:40]!r}...)")
        return marked

    def _check_length(self, pieces: int, what: str) -> None:
        longest = self.description.max_pieces
        if pieces + _SPECIALS > longest:
            raise UserError(
                f"{what} has {pieces + _SPECIALS} pieces with [CLS] and [SEP], and this model was trained on at most "
                f"{longest}: split it"
            )

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


def _per_text(texts: Sequence[_Text], given: Sequence | None, what: str) -> list[tuple[_Text, Sequence]]:
    """Each text with its spans, entities or pairs."""
    given = [()] * len(texts) if given is None else given
    if len(given) != len(texts) or any(isinstance(of_text, str) for of_text in given):
        raise UserError(f"{what}: give one list for each of the {len(texts)} texts")
    return list(zip(texts, given, strict=True))
