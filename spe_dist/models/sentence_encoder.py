"""States of word pieces: any Hugging Face encoder of BERT's kind, run on packed sequences."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from data_shards.errors import UserError
from data_shards.text.word_pieces import WordPieces
from spe_dist.batches.batch import PackedSequences
from spe_dist.config import ComputeConfig, EncoderConfig
from spe_dist.models.packed_attention import (
    NAME,
    AttentionRows,
    LastAttention,
    PaddedGroup,
    PaddedLayout,
    VarlenLayout,
    layout_of,
    packed_attention,
)
from spe_dist.models.plain_encoder import PlainEncoder, load_plain_encoder

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_POSITION_OFFSETS = {"bert": 0, "electra": 0, "roberta": 1, "xlm-roberta": 1, "camembert": 1}  # in padding indices + 1
_ONE_PIECE = PackedSequences(
    piece_ids=torch.zeros(1, dtype=torch.int64),
    positions=torch.zeros(1, dtype=torch.int64),
    sequence_starts=torch.tensor([0, 1], dtype=torch.int32),
    longest=1,
)


class SentenceEncoder(nn.Module):
    """A BERT-like encoder without pooler.

    Args:
        model: a Hugging Face encoder that was built with the "packed" attention, or its stand-in.
        packed: whether its layers run without padding.
    """

    def __init__(self, model: PreTrainedModel | PlainEncoder, *, packed: bool = True) -> None:
        super().__init__()
        self.model: Any = model
        self.packed = packed
        self.first_position = _first_position(model.config)

    @property
    def hidden_size(self) -> int:
        """Size of a state, H."""
        return self.model.config.hidden_size

    @property
    def max_pieces(self) -> int:
        """Longest sequence it has positions for, [CLS] and [SEP] included."""
        return self.model.config.max_position_embeddings - self.first_position

    @property
    def word_embeddings(self) -> nn.Embedding:
        """The table of piece embeddings, [vocabulary, embedding size]."""
        return self.model.get_input_embeddings()

    def forward(
        self, packed: PackedSequences, added: Tensor | None = None, last: LastAttention | None = None
    ) -> Tensor:
        """States of the last layer, [P, H].

        Args:
            packed: pieces of S sequences.
            added: vectors to add to the embeddings of the pieces, [P, embedding size]; not with padded layers.
            last: is given what the last layer attends with; not with padded layers.
        """
        if not len(packed.piece_ids):  # Hugging Face's reshapes need a piece; so every parameter stays in the graph
            return self.forward(_ONE_PIECE.to(packed.piece_ids.device))[:0]
        if not self.packed:
            if added is not None or last is not None:
                raise ValueError("padded layers cannot add anything to the embeddings, or tell their attention")
            return self._padded_states(packed)
        layout, segments = layout_of(packed), self._segments(packed)
        if isinstance(layout, VarlenLayout):
            return self._states(packed.piece_ids, packed.positions, segments, layout, added, last)
        ids, positions, segments = (values[layout.order] for values in (packed.piece_ids, packed.positions, segments))
        added = None if added is None else added[layout.order]
        states = self._states(ids, positions, segments, layout, added, last)
        return states.index_select(0, layout.places)

    def with_attention(self, packed: PackedSequences, rows: AttentionRows) -> tuple[Tensor, list[Tensor]]:
        """States of the last layer, [P, H], and what some pieces attend to there.

        Args:
            packed: pieces of S ≥ 1 sequences.
            rows: whose attention is asked for.

        Returns:
            The states; for each sequence, probabilities [heads, its rows, its pieces], fp32, before dropout.
        """
        last = LastAttention()
        states = self(packed, last=last)
        return states, last.of_rows(rows)

    def _segments(self, packed: PackedSequences) -> Tensor:
        """Of each piece, [P]; all 0 for encoders that know one segment alone (RoBERTa, new ones)."""
        if packed.segments is None or self.model.config.type_vocab_size < 2:
            return torch.zeros_like(packed.piece_ids)
        return packed.segments

    def _padded_states(self, packed: PackedSequences) -> Tensor:
        """The same with every sequence padded to the longest, in all layers."""
        lengths = packed.sequence_starts.diff()
        is_piece = torch.arange(packed.longest, device=lengths.device) < lengths[:, None]
        ids, positions, segments = (
            values.new_zeros(is_piece.shape).masked_scatter(is_piece, values).flatten()
            for values in (packed.piece_ids, packed.positions, self._segments(packed))
        )
        group = PaddedGroup(len(lengths), packed.longest, is_piece=is_piece[:, None, None])
        states = self._states(ids, positions, segments, PaddedLayout((group,), lengths, lengths))
        return states[is_piece.flatten()]

    def compile_layers(self, *, backend: str = "inductor") -> None:
        """Run the layers through torch.compile: one graph for all shapes, and one more without gradients.

        On a CPU: for each number of groups that attention makes of a batch, which is that of its sequences but where
        many are equally long.
        """
        self.model.compile(dynamic=True, backend=backend)

    def checkpoint_activations(self) -> None:
        """Keep one state per layer in the forward pass; the backward pass computes the rest again."""
        self.model.gradient_checkpointing_enable({"use_reentrant": False})

    def _states(
        self,
        piece_ids: Tensor,
        positions: Tensor,
        segments: Tensor,
        layout: VarlenLayout | PaddedLayout,
        added: Tensor | None = None,
        last: LastAttention | None = None,
    ) -> Tensor:
        pieces = (
            {"input_ids": piece_ids[None]}
            if added is None
            else {"inputs_embeds": (self.word_embeddings(piece_ids) + added)[None]}
        )
        states = self.model(
            **pieces,
            position_ids=positions[None] + self.first_position,
            token_type_ids=segments[None],
            layout=layout,
            last=last,
        )
        return states.last_hidden_state[0]


def resolve_encoder_config(
    config: EncoderConfig, *, vocab_size: int, max_pieces: int = 1, tokenizer: str | None = None
) -> PretrainedConfig:
    """Sizes of the encoder that the configuration names or describes, checked against the shards or a tokenizer.

    Args:
        config: which encoder.
        vocab_size: pieces of the vocabulary.
        max_pieces: longest sequence of the shards, [CLS] and [SEP] included.
        tokenizer: where the vocabulary is from; None: the shards.

    Raises:
        UserError: it cannot be found, is of an unknown kind, or does not fit.
    """
    hf_config = _load_config(config) if config.name_or_path else _new_config(config, vocab_size)
    _check_kind(hf_config)
    set_dropout(hf_config, config)
    name = config.name_or_path or "the new encoder"
    _check_vocabulary(hf_config, name, vocab_size, tokenizer)
    positions = hf_config.max_position_embeddings - _first_position(hf_config)
    if positions < max_pieces:
        raise UserError(
            f"encoder {name} has {positions} positions, the shards hold sentences of up to {max_pieces} pieces: "
            "build the shards with a smaller --max-pieces"
        )
    return hf_config


def check_encoder_kind(config: EncoderConfig) -> None:
    """Refuse a named encoder of another kind, before its tokenizer is looked at.

    Raises:
        UserError: it cannot be found or is of another kind.
    """
    _check_kind(_load_config(config))


def set_dropout(hf_config: PretrainedConfig, config: EncoderConfig) -> None:
    """Dropout as the configuration says.

    Raises:
        UserError: this machine's attention has none.
    """
    if torch.cuda.is_available() and config.attention_dropout > 0:
        raise UserError("encoder.attention_dropout must be 0 on CUDA: its packed attention has no dropout")
    hf_config.hidden_dropout_prob = config.dropout
    hf_config.attention_probs_dropout_prob = config.attention_dropout


def build_sentence_encoder(
    config: EncoderConfig, compute: ComputeConfig, hf_config: PretrainedConfig
) -> SentenceEncoder:
    """The encoder that a run begins with: loaded or new, computed as the run says; not compiled yet."""
    if config.name_or_path:
        encoder = load_sentence_encoder(config.name_or_path, hf_config, packed=compute.packed)
    else:
        encoder = new_sentence_encoder(hf_config, packed=compute.packed)
    if compute.checkpoint_activations:
        encoder.checkpoint_activations()
    return encoder


def new_sentence_encoder(hf_config: PretrainedConfig, *, packed: bool = True) -> SentenceEncoder:
    """An encoder of the given sizes with new weights."""
    model = _auto_model().from_config(hf_config, attn_implementation=NAME, **_no_pooler(hf_config))
    return SentenceEncoder(model, packed=packed)


def load_sentence_encoder(name_or_path: str, hf_config: PretrainedConfig, *, packed: bool = True) -> SentenceEncoder:
    """The encoder of a Hugging Face name or folder, in fp32.

    Raises:
        UserError: weights are missing there or have another shape.
    """
    return load_sentence_encoder_strictly(name_or_path, hf_config, packed=packed)[0]


def load_sentence_encoder_strictly(
    name_or_path: str, hf_config: PretrainedConfig, *, packed: bool = True
) -> tuple[SentenceEncoder, list[str]]:
    """The encoder of a Hugging Face name or folder, in fp32, and the names of weights there that it has no place for.

    Raises:
        UserError: weights are missing there or have another shape: transformers would make new ones without a word.
    """
    with quiet_transformers():
        try:
            model, info = _auto_model().from_pretrained(
                name_or_path,
                config=hf_config,
                attn_implementation=NAME,
                dtype=torch.float32,
                output_loading_info=True,
                use_safetensors=True,  # no pickles
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # they are reported with the missing ones
                **_no_pooler(hf_config),
            )
        except OSError as error:
            raise UserError(
                f"encoder {name_or_path}: cannot read model.safetensors there ({_reason(error)}); pickled weights "
                "(pytorch_model.bin) are not read: save them as safetensors"
            ) from error
        except (SafetensorError, ValueError, RuntimeError, KeyError) as error:  # the last: of odd sizes
            raise UserError(f"encoder {name_or_path} cannot be loaded ({_reason(error)})") from error
    missing = sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])})
    if missing:
        raise UserError(
            f"encoder {name_or_path} lacks {len(missing)} of the weights of its configuration, or has them in another "
            f"shape, such as {missing[0]}: name a complete encoder"
        )
    return SentenceEncoder(model, packed=packed), sorted(info["unexpected_keys"])


def load_to_predict(folder: Path) -> SentenceEncoder:
    """The encoder of a model's folder, in fp32, for predicting: without transformers if it is of a common kind.

    Raises:
        UserError: weights are missing there or have another shape.
    """
    plain = load_plain_encoder(folder)
    return load_saved_encoder(folder) if plain is None else SentenceEncoder(plain)


def load_saved_encoder(folder: Path) -> SentenceEncoder:
    """The encoder of a model's folder, in fp32, for training.

    Raises:
        UserError: weights are missing there or have another shape.
    """
    from transformers import AutoConfig

    return load_sentence_encoder(str(folder), AutoConfig.from_pretrained(folder, trust_remote_code=False))


def add_rows(encoder: SentenceEncoder, rows: int) -> None:
    """Give the word embeddings this many rows if they have fewer; new ones are drawn as BERT's are."""
    if rows > encoder.model.config.vocab_size:
        with quiet_transformers():
            encoder.model.resize_token_embeddings(rows, mean_resizing=False)


def save_sentence_encoder(encoder: SentenceEncoder, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write what `AutoModel` reads, with all weights that it looks for, into an existing folder.

    AutoModel builds a pooler, which no objective trains: were there none to load, it would make a random one and report
    it. This one keeps the state of [CLS] as it is, for the pooler's tanh.

    Args:
        encoder: with its configuration.
        folder: to write to.
        weights: of the Hugging Face model, by name; None: the encoder's own.
    """
    weights = dict(encoder.model.state_dict() if weights is None else weights)
    if _has_pooler(encoder.model.config):
        weights["pooler.dense.weight"] = torch.eye(encoder.hidden_size)
        weights["pooler.dense.bias"] = torch.zeros(encoder.hidden_size)
    with quiet_transformers():
        encoder.model.save_pretrained(folder, state_dict=weights)


def save_tokenizer(word_pieces: WordPieces, encoder: SentenceEncoder, folder: Path) -> None:
    """Write what `AutoTokenizer` reads for an encoder: `truncation=True` cuts to its positions."""
    word_pieces.save(folder, max_pieces=encoder.max_pieces, token_types=encoder.model.config.type_vocab_size > 1)


def _auto_model() -> Any:
    """The class that knows our attention then; on use, as its import takes longer than a short prediction."""
    from transformers import AttentionInterface, AutoModel

    AttentionInterface.register(NAME, packed_attention)
    return AutoModel


def _has_pooler(hf_config: PretrainedConfig) -> bool:
    return hf_config.model_type != "electra"


def _no_pooler(hf_config: PretrainedConfig) -> dict[str, bool]:
    return {"add_pooling_layer": False} if _has_pooler(hf_config) else {}


def _load_config(config: EncoderConfig) -> PretrainedConfig:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(config.name_or_path, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:  # the last three: odd values in it
        kind = "folder" if Path(str(config.name_or_path)).exists() else "folder, and no model of that name was reached"
        raise UserError(
            f"encoder.name_or_path: cannot load {config.name_or_path!r}: not an encoder {kind} ({_reason(error)})"
        ) from error


def _reason(error: Exception) -> str:
    """What another library's message begins with; its advice comes behind."""
    first_line = next(iter(str(error).splitlines()), "") or type(error).__name__
    return first_line.split(". ")[0].rstrip(".")


def _new_config(config: EncoderConfig, vocab_size: int) -> PretrainedConfig:
    from transformers import BertConfig

    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=config.intermediate_size,
        max_position_embeddings=config.max_positions,
        type_vocab_size=1,
    )


def _check_vocabulary(hf_config: PretrainedConfig, name: str, vocab_size: int, tokenizer: str | None) -> None:
    if hf_config.vocab_size >= vocab_size:
        return
    if tokenizer is None:
        raise UserError(
            f"encoder {name} knows {hf_config.vocab_size} pieces, the shards were built with {vocab_size}: "
            "build the shards with this encoder's tokenizer (spe shards build --tokenizer ...)"
        )
    raise UserError(
        f"encoder {name} knows {hf_config.vocab_size} pieces, but its tokenizer {tokenizer} has {vocab_size}: name the "
        "tokenizer that the encoder was trained with (start.tokenizer)"
    )


def _check_kind(hf_config: PretrainedConfig) -> None:
    """Before anything else is read: configurations of other kinds have other fields."""
    if hf_config.model_type not in _POSITION_OFFSETS:
        raise UserError(
            f"encoders of type {hf_config.model_type!r} are not supported; these are: {', '.join(_POSITION_OFFSETS)}"
        )
    for wrong, reason in (
        (hf_config.is_decoder, "is_decoder: a piece sees only those before it"),
        (getattr(hf_config, "position_embedding_type", None) not in (None, "absolute"), "position_embedding_type"),
        (_POSITION_OFFSETS[hf_config.model_type] and hf_config.pad_token_id is None, "no pad_token_id"),
    ):
        if wrong:
            raise UserError(f"this {hf_config.model_type} is of a kind that is not supported (config.json: {reason})")


def _first_position(hf_config: PretrainedConfig) -> int:
    _check_kind(hf_config)
    return _POSITION_OFFSETS[hf_config.model_type] and hf_config.pad_token_id + 1


class quiet_transformers:
    """No report about the pooler and heads that are left out on purpose, and no progress bars."""

    def __enter__(self) -> None:
        from transformers.utils import logging as transformers_logging

        self.verbosity = transformers_logging.get_verbosity()
        self.progress_bar = transformers_logging.is_progress_bar_enabled()
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        from transformers.utils import logging as transformers_logging

        transformers_logging.set_verbosity(self.verbosity)
        if self.progress_bar:
            transformers_logging.enable_progress_bar()
