"""What documents of a build are to have: settings for every worker, which loads what they name once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from data_shards.errors import UserError
from data_shards.knowledge.knowledge_base import KnowledgeBase
from data_shards.knowledge.leakage import ExcludedPairs
from data_shards.knowledge.linking import Linker
from data_shards.pipeline.document_filter import DocumentFilter

DOCUMENT_RULES = 1
"""Number of the rules that make records of documents: another one whenever they change, as they decide bytes."""


@dataclass(frozen=True)
class KnowledgePlan:
    """A knowledge base: where this machine has it, and what tells it apart from others everywhere."""

    folder: str
    fingerprint: str
    language: str
    keep_unlinked: bool
    """Whether entities without a number in it are kept: those that a pipeline has found."""
    sizes: Mapping[str, int]
    """Entities, facts, names that are looked for, and names of several entities."""

    @classmethod
    def of(cls, folder: str, language: str, *, keep_unlinked: bool) -> tuple[KnowledgePlan, dict[str, str]]:
        """Load it; also returns the codes and names of its relations.

        Raises:
            UserError: it is not there, or a file of it is wrong.
        """
        base = KnowledgeBase.load(folder)
        linker = Linker(base, language=language)
        sizes = {
            "entities": len(base.entity_ids),
            "facts": len(base.pairs),
            "names": linker.names,
            "ambiguous_names": linker.ambiguous_names,
        }
        plan = cls(str(Path(folder).absolute()), base.fingerprint, language, keep_unlinked, sizes)
        return plan, dict(zip(base.relation_ids, base.relation_names, strict=True))

    @property
    def settings(self) -> dict[str, Any]:
        """What decides mentions and facts: no path of this machine."""
        return {"knowledge_base": self.fingerprint, **self.sizes, "keep_unlinked": self.keep_unlinked}


@dataclass(frozen=True)
class ExcludedPlan:
    """Files whose facts are to be no part of the data, and what tells them apart from others."""

    files: tuple[str, ...]
    fingerprint: str
    pairs: int

    @classmethod
    def of(cls, files: Sequence[str]) -> ExcludedPlan:
        """Read them.

        Raises:
            UserError: one is not there, or in no known format.
        """
        excluded = ExcludedPairs.read(files)
        return cls(tuple(str(Path(file).absolute()) for file in files), excluded.fingerprint, len(excluded))


@dataclass(frozen=True)
class DocumentPlan:
    """What documents of a build are to have."""

    filter: DocumentFilter
    relations: Mapping[str, str]
    """Codes of relations in the order of their numbers → names."""
    knowledge: KnowledgePlan | None = None
    """Where mentions and facts come from; None if the documents list them."""
    excluded: ExcludedPlan | None = None
    """Pairs that are blocked."""

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides bytes, as it stands in the manifest."""
        return {
            **vars(self.filter),
            "rules": DOCUMENT_RULES,
            "from": self.knowledge.settings if self.knowledge else {"gold_relations": list(self.relations)},
            "excluded_facts": {"pairs": self.excluded.pairs, "fingerprint": self.excluded.fingerprint}
            if self.excluded
            else None,
        }


@lru_cache(maxsize=1)
def _load_linker(folder: str, fingerprint: str, language: str) -> tuple[KnowledgeBase, Linker]:
    """The knowledge base and what finds its names, loaded once per process.

    Raises:
        UserError: this machine has another one there.
    """
    base = KnowledgeBase.load(folder)
    if base.fingerprint != fingerprint:
        raise UserError(
            f"{folder}: the knowledge base differs between machines, or was changed: copy the same one to all machines"
        )
    return base, Linker(base, language=language)


def linker_of_worker(plan: KnowledgePlan) -> tuple[KnowledgeBase, Linker]:
    """The knowledge base and what finds its names."""
    return _load_linker(plan.folder, plan.fingerprint, plan.language)


@lru_cache(maxsize=1)
def excluded_of_worker(plan: ExcludedPlan) -> ExcludedPairs:
    """The pairs of evaluation data, read once per process.

    Raises:
        UserError: this machine has other ones there.
    """
    excluded = ExcludedPairs.read(plan.files)
    if excluded.fingerprint != plan.fingerprint:
        raise UserError(
            f"{', '.join(plan.files)}: the files differ between machines, or were changed: copy the same ones to all"
        )
    return excluded
