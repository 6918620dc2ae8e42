"""README.md of an extractor: what it finds, how well, what it learned from. It names no folder of any machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from data_shards.annotated.annotated_sentence import AnnotatedSentence
from spe_dist.export.model_card import markdown_table, without_folders
from spe_dist.extraction.model.encoded_sentences import Labels
from spe_dist.extraction.predict.extractor_folder import WEIGHTS
from spe_dist.extraction.predict.extractor_place import DESCRIPTION
from spe_dist.extraction.scores.diagnostics import ABOUT
from spe_dist.finetuning.config import BERT, FinetuneConfig
from spe_dist.finetuning.folder import Result
from spe_dist.recipe import config_values
from spe_dist.train.run_folder import flatten

_SECTIONS = ("model", "sampling", "optimizer", "train")
_LEFT_OUT = ("train.checkpoint_every",)  # says nothing about the model

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
    config: FinetuneConfig,
    labels: Labels,
    data: Mapping[str, Sequence[AnnotatedSentence] | None],
    result: Result,
    versions: Mapping[str, str],
) -> str:
    """The card's text, with front matter for the Hugging Face hub.

    Args:
        config: of the fine-tuning.
        labels: of the model.
        data: "train" (what was learned from), "dev" and "test".
        result: scores of the best epoch.
        versions: of Python and packages.
    """
    parts = (
        _HEADER + f"\n# {config.run.name}",
        _summary(config, labels, result),
        "## How to use it\n\n" + _USAGE,
        "## Scores\n\n" + _scores(result),
        "## What the scores do not say\n\n" + _diagnostics(result),
        "## Types\n\n" + markdown_table(("kind", "types"), _types(labels)),
        "## Data\n\n" + markdown_table(("part", "file", "sentences", "entities", "relations"), _data(config, data)),
        "## Settings\n\n" + markdown_table(("setting", "value"), _settings(config)),
        "## Versions\n\n" + markdown_table(("package", "version"), versions.items()),
    )
    return "\n\n".join(parts) + "\n"


def _summary(config: FinetuneConfig, labels: Labels, result: Result) -> str:
    return (
        f"Finds entities of {len(labels.entity_types)} types and relations of {len(labels.relation_types)} types "
        "between entities of one sentence. Spans are tagged and typed, and all pairs of entities classified, with the "
        "span and span pair encoders of SPE (Wang et al., EMNLP 2020: "
        '"Pre-training Entity Relation Encoder with Intra-span and Inter-span Information"), by spe_dist.\n\n'
        f"{_start(config)} It was fine-tuned for {result.epochs} epochs with seed {result.seed}; these are the weights "
        f"after epoch {result.best_epoch}, the best on dev."
    )


def _start(config: FinetuneConfig) -> str:
    start = config.start.pretrained
    if start == BERT:
        encoder = config.encoder.name_or_path
        return (
            f"The sentence encoder started from `{without_folders(encoder)}`, all else from new weights."
            if encoder
            else "All weights started as new ones."
        )
    path = PurePath(start)
    run = f"{path.parent.name}/export" if path.name == "export" else path.name
    if config.start.no_cnn:
        return f"The sentence encoder started from the run `{run}`, all else from new weights."
    return f"Sentence, span and span pair encoder started from the run `{run}` as far as it trained them."


def _scores(result: Result) -> str:
    test = result.test or {}
    rows = [
        (measure, f"{100 * dev:.2f}", f"{100 * test[measure]:.2f}" if measure in test else "-")
        for measure, dev in result.dev.items()
    ]
    return (
        "Micro F1 in percent. A relation is right with the words of both arguments, type and direction; strict: with "
        "the types of both arguments, too.\n\n" + markdown_table(("measure", "dev", "test"), rows)
    )


def _diagnostics(result: Result) -> str:
    dev, test = (result.diagnostics.get(part, {}) for part in ("dev", "test"))
    rows = [(about, _three_digits(dev.get(name)), _three_digits(test.get(name))) for name, about in ABOUT.items()]
    return (
        "How far scores can be believed (dev is what they were calibrated on), how often unrelated entities are "
        "related, and what rules that look at the types of entities alone would reach. As fractions of 1; of F1s, "
        "higher than the relation F1 above means that the rule is better.\n\n"
        + markdown_table(("measure", "dev", "test"), rows)
    )


def _three_digits(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _types(labels: Labels) -> list[tuple[str, str]]:
    kinds = (("entities", labels.entity_types), ("relations", labels.relation_types))
    return [(kind, ", ".join(f"`{_cell(name)}`" for name in names) or "none") for kind, names in kinds]


def _data(config: FinetuneConfig, data: Mapping[str, Sequence[AnnotatedSentence] | None]) -> list[tuple[str, ...]]:
    rows = []
    for part, sentences in data.items():
        if sentences is not None:
            counts = (
                len(sentences),
                sum(len(sentence.entities) for sentence in sentences),
                sum(len(sentence.relations) for sentence in sentences),
            )
            name = _cell(PurePath(getattr(config.data, part)).name)
            share = f" ({config.data.fraction:.4g} of it)" if part == "train" and config.data.fraction < 1 else ""
            rows.append((part, f"`{name}`{share}", *(f"{count:,}" for count in counts)))
    return rows


def _settings(config: FinetuneConfig) -> list[tuple[str, Any]]:
    values = config_values(config)
    rows = [(f"{section}.{key}", value) for section in _SECTIONS for key, value in flatten(values[section]).items()]
    return [(key, value) for key, value in rows if key not in _LEFT_OUT]


def _cell(text: str) -> str:
    """Text that cannot leave a cell of a table, or its code."""
    return " ".join(text.split()).replace("|", "\\|").replace("`", "'")
