"""States of word pieces: a Hugging Face encoder, run on packed sequences or, where it cannot be, on padded groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spe_dist.batches.batch import PackedSequences
from spe_dist.models.architectures import (
    architecture_of,
    first_position,
    layers_of,
    most_pieces,
)
from spe_dist.models.graph_buckets import fill_up, require_packed_layers
from spe_dist.models.joint_projections import join_projections
from spe_dist.models.onnx_encoder import OnnxEncoder
from spe_dist.models.packed_attention import (
    AttentionRows,
    LastAttention,
    PaddedGroup,
    PaddedLayout,
    VarlenLayout,
    in_parts,
    layout_of,
    varlen_layout,
)
from spe_dist.models.padded_groups import (
    attention_of_last_layer,
    attention_of_rows,
    grouped_layout,
    states_of_groups,
)
from spe_dist.models.plain_encoder import PlainEncoder
from spe_dist.models.rounded_rows import rounded_up

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ONE_PIECE = PackedSequences(
    piece_ids=torch.zeros(1, dtype=torch.int64),
    positions=torch.zeros(1, dtype=torch.int64),
    sequence_starts=torch.tensor([0, 1], dtype=torch.int32),
    longest=1,
)


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
        self.graph_pieces = 0  # if set: the number of pieces is made a multiple of this (graph_buckets.py)
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
        """Layers, the lowest first."""
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
            return self.forward(_ONE_PIECE.to(packed.piece_ids.device))[:0]
        if not self.can_pack:
            if last is not None:
                raise ValueError("this encoder leaves no queries and keys")
            return self._states_of_groups(packed, self._groups(packed), added)
        if not self.packed:
            if added is not None or last is not None:
                raise ValueError("padded layers cannot add anything to the embeddings, or tell their attention")
            return self._padded_states(packed)
        if self.graph_pieces and last is None:
            return self._states_of_graphs(packed, added)
        return self._packed_states(packed, added, last)

    def _packed_states(self, packed: PackedSequences, added: Tensor | None, last: LastAttention | None) -> Tensor:
        most = getattr(self.model, "pieces_at_once", 0)
        if 0 < most < len(packed.piece_ids) and len(packed.sequence_starts) > 2:
            return torch.cat([self(*part) for part in in_parts(packed, added, most)])
        ids, positions, segments = packed.piece_ids, packed.positions, self._segments(packed)
        layout = varlen_layout(packed) if most else layout_of(packed, one_by_one=self.predicts)
        if isinstance(layout, VarlenLayout):
            return self._states(ids, positions, segments, layout, added, last)
        order = layout.order
        if more := self._rows_to_add(packed.piece_ids):
            order = torch.cat([order, order[:1].expand(more)])
        ids, positions, segments = (values[order] for values in (ids, positions, segments))
        added = None if added is None else added[order]
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
        if not self.can_pack:
            layout = self._groups(packed)
            with attention_of_last_layer(self.model) as attention:
                states = self._states_of_groups(packed, layout)
            return states, attention_of_rows(attention, layout, packed, rows)
        last = LastAttention()
        states = self(packed, last=last)
        return states, last.of_rows(rows)

    def _states_of_graphs(self, packed: PackedSequences, added: Tensor | None) -> Tensor:
        pieces, filled = len(packed.piece_ids), fill_up(packed, self.graph_pieces)
        if added is not None:
            added = nn.functional.pad(added, (0, 0, 0, len(filled.piece_ids) - pieces))
        # A copy: the next replay of the graph writes to the memory that its results lie in.
        return self._packed_states(filled, added, None)[:pieces].clone()

    def _segments(self, packed: PackedSequences) -> Tensor:
        """Segment of each piece, [P]; all 0 for encoders with a single segment (RoBERTa, new encoders)."""
        if packed.segments is None or self.token_types < 2:
            return torch.zeros_like(packed.piece_ids)
        return packed.segments

    def _groups(self, packed: PackedSequences) -> PaddedLayout:
        """Groups of sequences of similar length; one group where lengths are not known, and at ZeRO stage 3.

        At stage 3 every rank must call the layers equally often.
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
        """Number of rows that round up the number of pieces, where oneDNN computes and nothing is trained; else 0."""
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

    def compile_layers(self, *, graph_pieces: int = 0, backend: str = "inductor") -> None:
        """Run the layers through torch.compile: one graph for all shapes, and one more without gradients.

        On a CPU: for each number of groups that attention makes of a batch, which is that of its sequences but where
        many are equally long.

        Args:
            graph_pieces: replay CUDA graphs, recorded for each number of pieces, which is made a multiple of this; 0:
                launch every kernel.
            backend: of torch.compile.

        Raises:
            UserError: CUDA graphs are asked for, and the layers run padded.
        """
        if graph_pieces:
            require_packed_layers(self.packed and self.can_pack)
        self.graph_pieces = graph_pieces
        options = {"triton.cudagraphs": True} if graph_pieces and backend == "inductor" else None
        self.model.compile(dynamic=True, backend=backend, options=options)

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
