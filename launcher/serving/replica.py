"""A process that has a model and answers for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ray import serve

from launcher.predict_results import as_json
from launcher.serving.settings import ReplicaSettings

if TYPE_CHECKING:
    from spe_dist.extraction.predict.extractor import Extractor

_WARM_UP = "Marie Curie was born in Warsaw and worked at the University of Paris."


@dataclass(frozen=True)
class FoundTexts:
    """What was found.

    Args:
        version: of the model.
        lines: JSON of each text, as `spe predict` writes it.
    """

    version: str
    lines: list[str]


class _Asked(NamedTuple):
    text: str
    min_entity: float
    min_relation: float


class Replica:
    """An extractor behind a queue. Texts of several requests are read as one batch while another is computed.

    Args:
        folder: of the model.
        version: of it.
        settings: how to compute.
    """

    def __init__(self, folder: str, version: str, settings: ReplicaSettings) -> None:
        import torch

        torch.set_num_threads(settings.threads)
        self._version = version
        self._extractor = load(folder, settings)
        for texts in (1, 2, settings.batch_texts):  # kernels are made for the first batches
            self._extractor([_WARM_UP] * texts)
        self._find = serve.batch(
            self._find_together,
            max_batch_size=settings.batch_texts,
            batch_wait_timeout_s=settings.batch_wait_seconds,
        )

    async def extract(self, texts: Sequence[str], min_entity: float, min_relation: float) -> FoundTexts:
        """What is in texts.

        Args:
            texts: to read.
            min_entity: least score of an entity.
            min_relation: least score of a relation.
        """
        lines = await asyncio.gather(*(self._find(_Asked(text, min_entity, min_relation)) for text in texts))
        return FoundTexts(self._version, list(lines))

    async def describe(self) -> dict[str, Any]:
        """The version and what it tells apart."""
        entities, relations = self._extractor.entity_types, self._extractor.relation_types
        return {"version": self._version, "entity_types": list(entities), "relation_types": list(relations)}

    async def _find_together(self, asked: list[_Asked]) -> list[str]:
        return await asyncio.to_thread(self._lines, asked)

    def _lines(self, asked: list[_Asked]) -> list[str]:
        from spe_dist.extraction.predict.prediction import scored_at_least

        found = self._extractor([one.text for one in asked])
        return [
            as_json(scored_at_least(text, one.min_entity, one.min_relation).as_json())
            for text, one in zip(found, asked, strict=True)
        ]


def load(folder: str, settings: ReplicaSettings) -> Extractor:
    """The model of a folder.

    Raises:
        UserError: it is none.
    """
    from spe_dist.extraction.predict.extractor import Extractor

    return Extractor.from_pretrained(folder, device=settings.device, precision=settings.precision)
