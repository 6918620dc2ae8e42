"""README.md of an extractor: what it finds, how well, what it learned from. It names no folder of any machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from data_shards.annotated.annotated_sentence import AnnotatedSentence
from data_shards.counted import counted
from spe_dist.extraction.config import ExtractionConfig
from spe_dist.extraction.model.constraints import triples_of
from spe_dist.extraction.model.encoded_sentences import Labels
from spe_dist.extraction.predict.extractor_folder import DESCRIPTION, WEIGHTS, ExtractorDescription
from spe_dist.extraction.scores.diagnostics import ABOUT, LEAST_SCORES, curve_names
from spe_dist.extraction.scores.score_quality import KINDS
from spe_dist.finetuning.card import about_making, scores_table, started_and_trained, table_cell
from spe_dist.finetuning.folder import DEV, Result
from spe_dist.text_table import markdown_table

if TYPE_CHECKING:
    from spe_dist.finetuning.data import Data

_HEADER = """---
library_name: spe_dist
pipeline_tag: token-classification
tags:
- named-entity-recognition
- relation-extraction
- span-pair-encoder
# license: for whoever publishes this model to choose; encoder and annotated data have licences of their own
---
"""

_FOUND = {
    "tags": "The words of a sentence are tagged, the spans that the tags name typed",
    "spans": "All short spans of a sentence are scored, those that are kept typed",
}
_PAPERS = {
    "attention": "SPE (Wang et al., EMNLP 2020: "
    '"Pre-training Entity Relation Encoder with Intra-span and Inter-span Information")',
    "concatenation": "ENPAR (Wang et al., EACL 2021: "
    '"ENPAR: Enhancing Entity and Entity Pair Representations for Joint Entity Relation Extraction")',
}
_SHOWN_TRIPLES = 20

_USAGE = f"""With spe_dist, from Python:

```python
from spe_dist import Extractor

extractor = Extractor.from_pretrained("FOLDER")
(found,) = extractor(["Marie Curie was born in Warsaw."])
for entity in found.entities:
    print(entity.start, entity.end, entity.text, entity.type, entity.score)
for relation in found.relations:
    print(found.entities[relation.head].text, relation.type, found.entities[relation.tail].text, relation.score)
```

and from the shell:

    spe predict FOLDER --text "Marie Curie was born in Warsaw."
    spe predict FOLDER texts.txt --out found.jsonl

The sentence encoder and its tokenizer alone are `AutoModel.from_pretrained("FOLDER")` and
`AutoTokenizer.from_pretrained("FOLDER")` of transformers (no pooler was trained). All else is in `{WEIGHTS}`;
`{DESCRIPTION}` says what it is."""


def extractor_card(
    config: ExtractionConfig,
    data: Data[AnnotatedSentence, ExtractorDescription],
    result: Result,
    versions: Mapping[str, str],
) -> str:
    """The card's text, with front matter for the Hugging Face hub.

    Args:
        config: configuration of the fine-tuning.
        data: what was learned from and scored on.
        result: scores of the best epoch.
        versions: versions of Python and packages.
    """
    labels = data.description.labels
    counts = {
        part: None
        if sentences is None
        else (len(sentences), sum(len(one.entities) for one in sentences), sum(len(one.relations) for one in sentences))
        for part, sentences in (("train", data.train), (DEV, data.dev), ("test", data.test))
    }
    parts = (
        _HEADER + f"\n# {config.run.name}",
        f"Finds entities of {counted(len(labels.entity_types), 'type')} and relations of "
        f"{counted(len(labels.relation_types), 'type')} between entities of one sentence. "
        f"{_FOUND[config.model.detector]}, and all pairs of entities classified, with span and span "
        f"pair encoders as in {_PAPERS[config.model.pair_encoder]}, by spe_dist.",
        started_and_trained(config, result),
        "## How to use it\n\n" + _USAGE,
        "## Scores\n\nMicro F1 in percent. A relation is right with the words of both arguments, type and direction; "
        "strict: with the types of both arguments, too.\n\n" + scores_table(result),
        "## What the scores do not say\n\n" + _diagnostics(result),
        "## Precision and recall by score\n\n" + _by_least_score(result),
        "## Types\n\n" + markdown_table(("kind", "types"), _types(labels), padded=False),
        "## Types that are related\n\n" + _triples(data),
        *about_making(config, counts, ("sentences", "entities", "relations"), versions),
    )
    return "\n\n".join(parts) + "\n"


def _diagnostics(result: Result) -> str:
    dev, test = (result.diagnostics.get(part, {}) for part in ("dev", "test"))
    rows = [(about, _three_digits(dev.get(name)), _three_digits(test.get(name))) for name, about in ABOUT.items()]
    return (
        "How far scores can be believed (dev is what they were calibrated on), how often unrelated entities are "
        "related, and what rules that look at the types of entities alone would reach. As fractions of 1; of F1s, "
        "higher than the relation F1 above means that the rule is better.\n\n"
        + markdown_table(("measure", "dev", "test"), rows, padded=False)
    )


def _by_least_score(result: Result) -> str:
    dev = result.diagnostics[DEV]
    rows = [
        (f"{least:g}", *(_three_digits(dev[name]) for kind in KINDS for name in curve_names(kind, least)))
        for least in LEAST_SCORES
    ]
    header = ("least score", "entities: precision", "recall", "relations: precision", "recall")
    return (
        "On dev, as fractions of 1, if entities and relations (with the types of both arguments) below a score are "
        "left out (`--min-entity-score`, `--min-relation-score`).\n\n" + markdown_table(header, rows, padded=False)
    )


def _triples(data: Data[AnnotatedSentence, ExtractorDescription]) -> str:
    if data.description.constraints.triples is None:
        return "Any relation is predicted between entities of any types."
    counts = triples_of(data.train).most_common()
    rows = [(*map(table_cell, triple), f"{count:,}") for triple, count in counts[:_SHOWN_TRIPLES]]
    more = f"\n\nand {len(counts) - len(rows):,} more, in `{DESCRIPTION}`." if len(counts) > len(rows) else ""
    return (
        "Relations are predicted only between types that have them in the training data.\n\n"
        + markdown_table(("head", "relation", "tail", "in the training data"), rows, padded=False)
        + more
    )


def _three_digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _types(labels: Labels) -> list[tuple[str, str]]:
    kinds = (("entities", labels.entity_types), ("relations", labels.relation_types))
    return [(kind, ", ".join(f"`{table_cell(name)}`" for name in names) or "none") for kind, names in kinds]
