"""Relation discrimination of some documents: draws from their rows of pairs, losses, and what is measured of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spe_dist.batches.batch import send
from spe_dist.methods.erica.config import RdConfig
from spe_dist.methods.erica.fact_pairs import RELATION, SINGLE, RelationDraws, draw_relations, relation_uniforms
from spe_dist.methods.erica.facts import share_identity
from spe_dist.methods.erica.relation_discrimination import ComparedPairs, relation_discrimination

KINDS = ("ss", "sc", "cs", "cc")
METRICS = (
    "rd_found",
    "rd_by_chance",
    "rd_disjoint",
    "rd_disjoint_found",
    *(f"rd_{kind}" for kind in KINDS),
    *(f"rd_{kind}_found" for kind in KINDS),
)
_ANCHORS_AT_ONCE = 1024  # each is multiplied with all entities


@dataclass(frozen=True)
class ComparedFacts:
    """Facts that are compared, and what with."""

    config: RdConfig
    rows: NDArray[np.int64]  # [N, COLUMNS] of `fact_pairs`
    groups: NDArray[np.int64]  # [N] lanes or STEP, ascending
    draws: RelationDraws

    @classmethod
    def draw(
        cls, config: RdConfig, rows: NDArray[np.int64], groups: NDArray[np.int64], *, seed: int, step: int
    ) -> ComparedFacts:
        """Draw positives and negatives of all facts of the rows."""
        columns = 1 + (0 if config.negatives == "all" else config.negatives)
        uniforms = relation_uniforms(rows, groups, seed=seed, step=step, columns=columns)
        drawn = draw_relations(rows, groups, uniforms, terms=config.terms, every=config.positives == "all")
        return cls(config, rows, groups, drawn)

    def of_rows(self, first: int, last: int) -> ComparedFacts:
        """Only the anchors among rows first … last - 1."""
        return replace(self, draws=self.draws.between(first, last))

    def relations(self) -> int:
        """Number of relations that take part, those of each group by themselves."""
        anchors = self.draws.anchors
        return len(np.unique(np.stack([self.groups[anchors], self.rows[anchors, RELATION]]), axis=1).T)

    def add_gradients(self, entities: Tensor) -> tuple[Tensor, Tensor]:
        """Losses and their gradients with respect to the entities [K, H], which are added to `entities.grad`.

        Returns:
            The sum of the losses, without gradient, and the sums of `METRICS`.
        """
        loss, metrics = torch.zeros((), device=entities.device), torch.zeros(len(METRICS), device=entities.device)
        for losses, of_metrics in self._parts(entities):
            losses.backward()
            loss += losses.detach()
            metrics += of_metrics
        return loss, metrics

    def loss(self, entities: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of the losses of the entities [K, H], and the sums of `METRICS`."""
        loss, metrics = entities.sum() * 0, torch.zeros(len(METRICS), device=entities.device)
        for losses, of_metrics in self._parts(entities):
            loss = loss + losses
            metrics += of_metrics
        return loss, metrics

    def _parts(self, entities: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Sums of losses, with their graph, and of `METRICS`, of some anchors after the others."""
        device, draws = entities.device, self.draws
        pairs = ComparedPairs.of(self.rows, self.groups, device)
        kinds = np.where(self.rows[:, SINGLE] == 1, 0, 1)
        kind = 2 * kinds[draws.anchors] + kinds[draws.positives]
        disjoint = ~share_identity(self.rows[draws.anchors], self.rows[draws.positives])
        columns = (draws.anchors, draws.positives, kind, disjoint, draws.negatives)
        tensors = [send(torch.from_numpy(column), device) for column in columns]
        for part in zip(*(tensor.split(_ANCHORS_AT_ONCE) for tensor in tensors), strict=True):
            anchors, positives, kind_of_part, is_disjoint, negatives = part
            losses, found, allowed = relation_discrimination(
                entities, pairs, anchors, positives, negatives, temperature=self.config.temperature
            )
            of_kind = torch.nn.functional.one_hot(kind_of_part, len(KINDS)).float()
            metrics = [
                found.sum()[None],
                (1 / (1 + allowed)).sum()[None],
                is_disjoint.sum()[None],
                (is_disjoint & found).sum()[None],
                of_kind.sum(dim=0),
                (of_kind * found[:, None]).sum(dim=0),
            ]
            yield losses.sum(), torch.cat([metric.float() for metric in metrics])
