"""README.md of a model of relations between entities of documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from data_shards.counted import counted
from spe_dist.document_relations.config import DocumentRelationsConfig
from spe_dist.document_relations.folder import DESCRIPTION, STEM, DocumentModelDescription
from spe_dist.document_relations.graph import DocumentGraph
from spe_dist.finetuning.card import about_making, scores_table, started_and_trained, table_cell
from spe_dist.finetuning.folder import DEV, Result

if TYPE_CHECKING:
    from spe_dist.finetuning.data import Data

_HEADER = """---
library_name: spe_dist
tags:
- relation-extraction
- document-level-relation-extraction
# license: for whoever publishes this model to choose; encoder and annotated data have licences of their own
---
"""

_USAGE = f"""    spe predict FOLDER documents.json --out found.jsonl

The documents give their mentions, and which of them name the same entity (DocRED's format, and others that spe_dist
reads). The sentence encoder and its tokenizer alone are `AutoModel.from_pretrained("FOLDER")` and
`AutoTokenizer.from_pretrained("FOLDER")` of transformers (no pooler was trained). All else is in `{STEM}.safetensors`;
`{DESCRIPTION}` says what it is."""


def document_card(
    config: DocumentRelationsConfig,
    data: Data[DocumentGraph, DocumentModelDescription],
    result: Result,
    versions: Mapping[str, str],
    description: DocumentModelDescription,
) -> str:
    """The card's text, with front matter for the Hugging Face hub.

    Args:
        config: configuration of the fine-tuning.
        data: what was learned from and scored on.
        result: scores of the best epoch.
        versions: versions of Python and packages.
        description: description of the model, with its threshold.
    """
    counts = {
        part: None
        if items is None
        else (len(items), sum(len(one.nodes) for one in items), sum(len(one.edges) for one in items))
        for part, items in (("train", data.train), (DEV, data.dev), ("test", data.test))
    }
    relations = ", ".join(f"`{table_cell(name)}`" for name in description.relations)
    parts = (
        _HEADER + f"\n# {config.run.name}",
        f"Finds relations of {counted(len(description.relations), 'kind')} between the entities of a document, within "
        f"and across sentences. {_about_head(description)} Scores are not calibrated.",
        started_and_trained(config, result),
        "## How to use it\n\n" + _USAGE,
        "## Scores\n\nOf DocRED's official evaluation, in percent: relation_ign_f1 leaves out of precision what is "
        "known from the training file. single and cross: pairs that share a sentence, and others; evidence: recall of "
        "facts that one sentence or several state.\n\n" + scores_table(result),
        "## Relations\n\n" + relations,
        *about_making(config, counts, ("documents", "entities", "relations"), versions),
    )
    return "\n\n".join(parts) + "\n"


def _about_head(description: DocumentModelDescription) -> str:
    if description.head == "atlop":
        return (
            "Every ordered pair has a context of its own, which both entities attend to, and a threshold of its own: "
            f"the relations above it are predicted, at most {description.max_labels} of a pair. That is ATLOP (Zhou et "
            "al., AAAI 2021), by spe_dist. A score says how far a relation is above the threshold, from 0.5 on."
        )
    return (
        "An entity is the mean of its mentions; every ordered pair goes through a bilinear classifier (the model of "
        "the document experiments of ERICA, Qin et al., ACL 2021), by spe_dist. Relations with a score of "
        f"{description.threshold:.4f} or more are predicted, the threshold with the highest F1 on dev."
    )
