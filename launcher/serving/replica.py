"""A process that has a model and answers for it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from launcher.predict_results import as_json
from launcher.serving.settings import ReplicaSettings

if TYPE_CHECKING:
    from spe_dist.extraction.predict.extractor import Extractor

_WARM_UP = "Marie Curie was born in Warsaw and worked at the University of Paris."


class Asked(NamedTuple):
    """What a request wants to know.

    Args:
        texts: to read.
        min_entity: least score of an entity.
        min_relation: least score of a relation.
    """

    texts: list[str]
    min_entity: float
    min_relation: float


@dataclass(frozen=True)
class FoundTexts:
    """What was found for a request.

    Args:
        version: version of the model.
        lines: JSON of each text, as `spe predict` writes it.
    """

    version: str
    lines: list[str]


class Replica:
    """An extractor; it reads one batch after another.

    Args:
        folder: folder of the model.
        version: version of this model.
        settings: how to compute.
    """

    def __init__(self, folder: str, version: str, settings: ReplicaSettings) -> None:
        import torch

        torch.set_num_threads(settings.threads)
        self._version = version
        self._extractor = load(folder, settings)
        self._thread = ThreadPoolExecutor(max_workers=1)
        for texts in (1, 2, settings.batch_texts):  # kernels are made for the first batches
            self._extractor([_WARM_UP] * texts)

    async def extract(self, batch: Sequence[Asked]) -> list[FoundTexts]:
        """What is in the texts of some requests."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._find, batch)

    async def describe(self) -> dict[str, Any]:
        """The version and what it tells apart."""
        entities, relations = self._extractor.entity_types, self._extractor.relation_types
        return {"version": self._version, "entity_types": list(entities), "relation_types": list(relations)}

    def _find(self, batch: Sequence[Asked]) -> list[FoundTexts]:
        from spe_dist.extraction.predict.prediction import scored_at_least

        found = iter(self._extractor(text for asked in batch for text in asked.texts))
        return [
            FoundTexts(
                self._version,
                [
                    as_json(scored_at_least(next(found), asked.min_entity, asked.min_relation).as_json())
                    for _ in asked.texts
                ],
            )
            for asked in batch
        ]


def load(folder: str, settings: ReplicaSettings) -> Extractor:
    """The model of a folder.

    Raises:
        UserError: it is none.
    """
    from spe_dist.extraction.predict.extractor import Extractor

    return Extractor.from_pretrained(folder, device=settings.device, precision=settings.precision)
