"""States of word pieces: a Hugging Face encoder, run on packed sequences or, where it cannot be, on padded groups."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from data_shards.errors import UserError
from data_shards.text.word_pieces import WordPieces
from spe_dist.batches.batch import ONE_PIECE, PackedSequences
from spe_dist.config import ComputeConfig, EncoderConfig
from spe_dist.models.architectures import (
    architecture_of,
    first_position,
    how_it_runs,
    layers_of,
    most_pieces,
    set_dropout,
)
from spe_dist.models.exported_encoders import load_exported_encoder
from spe_dist.models.hugging_face import check_vocabulary, load_config, new_config, quiet_transformers, reason_of
from spe_dist.models.joint_projections import join_projections
from spe_dist.models.onnx_encoder import OnnxEncoder
from spe_dist.models.packed_attention import (
    NAME,
    AttentionRows,
    LastAttention,
    PaddedGroup,
    PaddedLayout,
    VarlenLayout,
    in_parts,
    layout_of,
    packed_attention,
    varlen_layout,
)
from spe_dist.models.padded_groups import (
    attention_of_last_layer,
    attention_of_rows,
    grouped_layout,
    states_of_groups,
)
from spe_dist.models.plain_encoder import PlainEncoder, load_plain_encoder
from spe_dist.models.rounded_rows import rounded_up

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_logger = logging.getLogger(__name__)


class SentenceEncoder(nn.Module):
    """An encoder without pooler.

    Args:
        model: a Hugging Face encoder, built with the "packed" attention if its architecture is; or a stand-in for it.
        packed: whether its layers run without padding; if its architecture cannot, whether on groups of similar length.
    """

    def __init__(self, model: PreTrainedModel | PlainEncoder | OnnxEncoder, *, packed: bool = True) -> None:
        super().__init__()
        self.model: Any = model
        self.packed = packed
        self.predicts = False  # if set: on CPUs, the fastest way for few sentences; training is bound to another
        self.first_position = first_position(model.config)
        self.can_pack = architecture_of(model.config).packed and not isinstance(model, OnnxEncoder)
        join_projections(model)

    @property
    def hidden_size(self) -> int:
        """Size of a state, H."""
        return self.model.config.hidden_size

    @property
    def backend(self) -> str:
        """What computes its layers: torch, or that of an export."""
        return getattr(self.model, "backend", "torch")

    @property
    def max_pieces(self) -> int:
        """Longest sequence it has positions for, [CLS] and [SEP] included."""
        return most_pieces(self.model.config)

    @property
    def word_embeddings(self) -> nn.Embedding:
        """The table of piece embeddings, [vocabulary, embedding size]."""
        return self.model.get_input_embeddings()

    @property
    def layers(self) -> nn.ModuleList:
        """The lowest first."""
        return layers_of(self.model)

    @property
    def token_types(self) -> int:
        """How many texts of a sequence it tells apart; 0 or 1: none."""
        return getattr(self.model.config, "type_vocab_size", 0)

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
            return self.forward(ONE_PIECE.to(packed.piece_ids.device))[:0]
        if not self.can_pack:
            if last is not None:
                raise ValueError("this encoder leaves no queries and keys")
            return self._states_of_groups(packed, self._groups(packed), added)
        if not self.packed:
            if added is not None or last is not None:
                raise ValueError("padded layers cannot add anything to the embeddings, or tell their attention")
            return self._padded_states(packed)
        most = getattr(self.model, "pieces_at_once", 0)
        if 0 < most < len(packed.piece_ids) and len(packed.sequence_starts) > 2:
            return torch.cat([self(*part) for part in in_parts(packed, added, most)])
        inputs = [packed.piece_ids, packed.positions, self._segments(packed), *([] if added is None else [added])]
        layout = varlen_layout(packed) if most else layout_of(packed, one_by_one=self.predicts)
        if isinstance(layout, VarlenLayout):
            return self._states(inputs[0], inputs[1], inputs[2], layout, added, last)
        order = layout.order
        if more := self._rows_to_add(packed.piece_ids):
            order = torch.cat([order, order[:1].expand(more)])
        inputs = [values[order] for values in inputs]
        added = None if added is None else inputs[3]
        states = self._states(inputs[0], inputs[1], inputs[2], layout, added, last)
        return states.index_select(0, layout.places)

    def with_attention(self, packed: PackedSequences, rows: AttentionRows) -> tuple[Tensor, list[Tensor]]:
        """States of the last layer, [P, H], and what some pieces attend to there.

        Args:
            packed: pieces of S ≥ 1 sequences.
            rows: whose attention is asked for.

        Returns:
            The states; for each sequence, probabilities [heads, its rows, its pieces], fp32, before dropout.
        """
        if not self.can_pack:
            layout = self._groups(packed)
            with attention_of_last_layer(self.model) as attention:
                states = self._states_of_groups(packed, layout)
            return states, attention_of_rows(attention, layout, packed, rows)
        last = LastAttention()
        states = self(packed, last=last)
        return states, last.of_rows(rows)

    def _segments(self, packed: PackedSequences) -> Tensor:
        """Of each piece, [P]; all 0 for encoders that know one segment alone (RoBERTa, new ones)."""
        if packed.segments is None or self.token_types < 2:
            return torch.zeros_like(packed.piece_ids)
        return packed.segments

    def _groups(self, packed: PackedSequences) -> PaddedLayout:
        """Of similar length; all together where lengths are not known, and at ZeRO's stage 3.

        There every rank must call the layers equally often.
        """
        table = self.word_embeddings.weight
        return grouped_layout(packed, together=not self.packed or hasattr(table, "ds_id") or table.is_meta)

    def _states_of_groups(self, packed: PackedSequences, layout: PaddedLayout, added: Tensor | None = None) -> Tensor:
        inputs = self._inputs(packed.piece_ids, added) | {"token_type_ids": self._segments(packed)}
        return states_of_groups(self.model, layout, inputs)

    def _inputs(self, piece_ids: Tensor, added: Tensor | None) -> dict[str, Tensor]:
        if added is None:
            return {"input_ids": piece_ids}
        return {"inputs_embeds": self.word_embeddings(piece_ids) + added}

    def _rows_to_add(self, piece_ids: Tensor) -> int:
        """To round up their number, where oneDNN computes and nothing is trained."""
        if not self.predicts or piece_ids.device.type != "cpu" or torch.is_grad_enabled():
            return 0
        if self.word_embeddings.weight.dtype != torch.bfloat16:  # products of fp32 are MKL's
            return 0
        return rounded_up(len(piece_ids)) - len(piece_ids)

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
        pieces = {name: values[None] for name, values in self._inputs(piece_ids, added).items()}
        if self.token_types:  # ModernBERT has none
            pieces["token_type_ids"] = segments[None]
        places = positions[None] + self.first_position
        states = self.model(**pieces, position_ids=places, layout=layout, last=last)
        return states.last_hidden_state[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """As of any module, but frequencies of rotary positions stay in fp32: in bf16 far positions would be wrong."""
        frequencies = {name: buffer for name, buffer in self.model.named_buffers() if buffer.is_floating_point()}
        super()._apply(fn, recurse)
        for name, buffer in frequencies.items():
            owner, _, own_name = name.rpartition(".")
            moved = self.model.get_buffer(name)
            if moved.dtype != buffer.dtype:
                setattr(self.model.get_submodule(owner), own_name, buffer.to(moved.device))
        return self


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
    hf_config = load_config(config) if config.name_or_path else new_config(config, vocab_size)
    set_dropout(hf_config, config)
    name = config.name_or_path or "the new encoder"
    check_vocabulary(hf_config, name, vocab_size, tokenizer)
    if most_pieces(hf_config) < max_pieces:
        raise UserError(
            f"encoder {name} has {most_pieces(hf_config)} positions, the shards hold sentences of up to {max_pieces} "
            "pieces: build the shards with a smaller --max-pieces"
        )
    return hf_config


def check_encoder_kind(config: EncoderConfig) -> None:
    """Refuse a named encoder of another kind, before its tokenizer is looked at.

    Raises:
        UserError: it cannot be found or is of another kind.
    """
    architecture_of(load_config(config))


def build_sentence_encoder(
    config: EncoderConfig, compute: ComputeConfig, hf_config: PretrainedConfig
) -> SentenceEncoder:
    """The encoder that a run begins with: loaded or new, computed as the run says; not compiled yet."""
    tell_how_it_runs(hf_config)
    if config.name_or_path:
        encoder = load_sentence_encoder(config.name_or_path, hf_config, packed=compute.packed)
    else:
        encoder = new_sentence_encoder(hf_config, packed=compute.packed)
    if compute.checkpoint_activations:
        encoder.checkpoint_activations()
    return encoder


def tell_how_it_runs(hf_config: PretrainedConfig) -> None:
    """A line in the log if an encoder's layers cannot run packed."""
    if not architecture_of(hf_config).packed:
        _logger.info("encoder: %s", how_it_runs(hf_config))


def new_sentence_encoder(hf_config: PretrainedConfig, *, packed: bool = True) -> SentenceEncoder:
    """An encoder of the given sizes with new weights."""
    model = _auto_model().from_config(hf_config, **_built_with(hf_config))
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
                dtype=torch.float32,
                output_loading_info=True,
                use_safetensors=True,  # no pickles
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # they are reported with the missing ones
                **_built_with(hf_config),
            )
        except OSError as error:
            raise UserError(
                f"encoder {name_or_path}: cannot read model.safetensors there ({reason_of(error)}); pickled weights "
                "(pytorch_model.bin) are not read: save them as safetensors"
            ) from error
        except (SafetensorError, ValueError, RuntimeError, KeyError) as error:  # the last: of odd sizes
            raise UserError(f"encoder {name_or_path} cannot be loaded ({reason_of(error)})") from error
    missing = sorted({*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])})
    if missing:
        raise UserError(
            f"encoder {name_or_path} lacks {len(missing)} of the weights of its configuration, or has them in another "
            f"shape, such as {missing[0]}: name a complete encoder"
        )
    return SentenceEncoder(model, packed=packed), sorted(info["unexpected_keys"])


def load_to_predict(folder: Path) -> SentenceEncoder:
    """The encoder of a model's folder, in fp32 or as exported, for predicting: without transformers if it can be.

    Raises:
        UserError: weights are missing there or have another shape.
        ModuleNotFoundError: it was exported for ONNX Runtime, which is not installed.
    """
    found = load_exported_encoder(folder) or load_plain_encoder(folder)
    return load_saved_encoder(folder) if found is None else SentenceEncoder(found)


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
    if architecture_of(encoder.model.config).pooler:
        weights["pooler.dense.weight"] = torch.eye(encoder.hidden_size)
        weights["pooler.dense.bias"] = torch.zeros(encoder.hidden_size)
    with quiet_transformers():
        encoder.model.save_pretrained(folder, state_dict=weights)


def save_tokenizer(word_pieces: WordPieces, encoder: SentenceEncoder, folder: Path) -> None:
    """Write what `AutoTokenizer` reads for an encoder: `truncation=True` cuts to its positions."""
    word_pieces.save(folder, max_pieces=encoder.max_pieces, token_types=encoder.token_types > 1)


def _auto_model() -> Any:
    """The class that knows our attention then; on use, as its import takes longer than a short prediction."""
    from transformers import AttentionInterface, AutoModel

    AttentionInterface.register(NAME, packed_attention)
    return AutoModel


def _built_with(hf_config: PretrainedConfig) -> dict[str, Any]:
    architecture = architecture_of(hf_config)
    without_pooler = {"add_pooling_layer": False} if architecture.pooler else {}
    return {"attn_implementation": NAME if architecture.packed else "eager", **without_pooler}
