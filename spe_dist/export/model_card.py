"""README.md of an exported model. It names no path and no date, so that the same run gives the same card."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from data_shards.shards.manifest import Manifest
from spe_dist.config import Config
from spe_dist.export.export_format import SPAN_PAIR_WEIGHTS, Description
from spe_dist.methods.run_summary import RunSummary
from spe_dist.recipe import config_values
from spe_dist.text_table import markdown_table

_NO_SETTINGS_OF_A_MODEL = {"run", "data", "cluster", "compute", "kernels"}
# Neither says anything about the model: speed, memory, and what only concerns where a run ran.
_LEFT_OUT = {"encoder.name_or_path", "batch.lanes_per_forward", "batch.pieces_per_forward", "train.log_every",
             "train.checkpoint_every", "train.keep_last", "train.keep_every"}  # fmt: skip

_HEADER = """---
library_name: transformers
tags:
- span-pair-encoder
- {method}
- feature-extraction
# license: for whoever publishes this model to choose; the training text has one of its own
---
"""


def model_card(
    config: Config,
    summary: RunSummary,
    description: Description,
    *,
    dataset: Manifest,
    fingerprint: str,
    versions: Mapping[str, str],
    metrics: Mapping[str, float],
) -> str:
    """The card's text, with front matter for the Hugging Face hub."""
    parts = (
        _HEADER.format(method=config.method) + f"\n# {config.run.name}",
        _summary(config, summary, description),
        "## How to load it\n\n" + _usage(description),
        "## Training data\n\n"
        + markdown_table(
            ("dataset", dataset.name), _data_rows(dataset, fingerprint, config.data.fraction), padded=False
        ),
        "## Settings\n\n" + markdown_table(("setting", "value"), _setting_rows(config), padded=False),
        "## Last metrics\n\n" + _metrics(summary, metrics),
        "## Versions\n\n" + markdown_table(("package", "version"), versions.items(), padded=False),
    )
    return "\n\n".join(parts) + "\n"


def _summary(config: Config, summary: RunSummary, description: Description) -> str:
    used = ", ".join(
        f"{objective.name} ({objective.key.upper()}), weight {objective.weight:g}"
        for objective in summary.objectives
        if objective.weight
    )
    which = "the trained encoder" if description.weights == "query" else "the momentum (key) encoder"
    start = config.encoder.name_or_path
    begun = f"started from `{without_folders(start)}`" if start else "newly initialised"
    encodes, unit = ("sentences, spans and span pairs", "sentences")
    if description.pooling is not None:
        encodes, unit = ("documents, their entities and entity pairs", "documents")
    return (
        f"An encoder of {encodes}, pre-trained on {summary.trained_on} with {summary.method} "
        f"({summary.paper}) by spe_dist.\n\n"
        f"Objectives: {used}. The sentence encoder was {begun}. These are the weights of {which} after "
        f"{description.step:,} of {config.train.steps:,} steps of {config.batch.lanes * config.batch.lane_size:,} "
        f"{unit}. The heads of the objectives are not part of it."
    )


def _usage(description: Description) -> str:
    blocks = [
        "The sentence encoder alone, with transformers (trained without a pooler):",
        "```python\nfrom transformers import AutoModel, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n'
        'encoder = AutoModel.from_pretrained("FOLDER")  # pooler_output: tanh of the state of [CLS], untrained\n```',
    ]
    if description.pooling is not None:
        blocks += [
            "With spans, entities and pairs, with spe_dist. A span's vector is the mean of its pieces' last-layer "
            "states, an entity's is the mean of its mentions' vectors, and a pair's is [head ; tail]: it has a "
            "direction. There are no weights beside the sentence encoder's:",
            "```python\nfrom spe_dist import SpanPairModel\n\n"
            'model = SpanPairModel.from_pretrained("FOLDER")\n'
            'text = "Marie Curie was born in Warsaw . Curie went to Paris ."\n'
            'result = model.encode(text, spans=["Marie Curie"], pairs=[("Marie Curie", "Warsaw")])\n'
            "result.spans, result.pairs  # one row each\n"
            'entities = [["Marie Curie", (33, 38)], ["Warsaw"]]  # each a list of mentions: words or characters\n'
            "(document,) = model.encode_documents([text], entities=[entities], pairs=[[(0, 1)]])\n"
            "document.entities, document.pairs  # one row each\n```",
        ]
    if description.span_encoder is not None:
        pairs = ', pairs=[("Marie Curie", "Warsaw")]' if description.pair_encoder is not None else ""
        vectors = "result.spans, result.pairs" if pairs else "result.spans"
        blocks += [
            f"With spans and span pairs (`{SPAN_PAIR_WEIGHTS}`), with spe_dist:",
            "```python\nfrom spe_dist import SpanPairModel\n\n"
            'model = SpanPairModel.from_pretrained("FOLDER")\n'
            f'result = model.encode("Marie Curie was born in Warsaw .", spans=["Marie Curie"]{pairs})\n'
            f"{vectors}  # one row each\n```",
        ]
    return (
        "\n\n".join(blocks) + f"\n\nText may be up to {description.max_pieces} pieces long, [CLS] and [SEP] included."
    )


def _data_rows(dataset: Manifest, fingerprint: str, fraction: float) -> list[tuple[str, str]]:
    counts = dataset.statistics
    names = ("documents", "sentences", "records", "words", "pieces")
    rows = [("fingerprint", f"`{fingerprint}`"), *((name, f"{getattr(counts, name):,}") for name in names)]
    if fraction < 1:
        rows.append(("part of the records that was read", f"{fraction:.1%} (data.fraction)"))
    case = {True: ", lower-cased", False: ", cased", None: ""}[dataset.tokenizer.lowercase]
    vocabulary = f"{dataset.tokenizer.vocab_size:,} pieces{case}"
    return [*rows, ("longest sentence", f"{dataset.max_pieces} pieces"), ("vocabulary", vocabulary)]


def _setting_rows(config: Config) -> list[tuple[str, Any]]:
    values = config_values(config)
    rows = [("run.seed", config.run.seed)]
    for section, settings in values.items():
        if isinstance(settings, dict) and section not in _NO_SETTINGS_OF_A_MODEL:
            rows += [(f"{section}.{key}", value) for key, value in settings.items()]
        elif not isinstance(settings, dict) and section != "method":
            rows.append((section, settings))
    return [(key, value) for key, value in rows if key not in _LEFT_OUT and not _is_unused_size(key, config)]


def _is_unused_size(key: str, config: Config) -> bool:
    """Sizes of a new encoder mean nothing where one was named."""
    return bool(config.encoder.name_or_path) and key.startswith("encoder.") and not key.endswith("dropout")


def _metrics(summary: RunSummary, metrics: Mapping[str, float]) -> str:
    prefixes = ("loss", *(f"{objective.key}_" for objective in summary.objectives))
    chosen = {name: value for name, value in metrics.items() if name.startswith(prefixes)}
    if not chosen:
        return "None were logged."
    rows = [(name, "-" if value is None or math.isnan(value) else f"{value:.4f}") for name, value in chosen.items()]
    return f"Means over the last logged steps, up to step {metrics['step']:,}.\n\n" + markdown_table(
        ("metric", "value"), rows, padded=False
    )


def without_folders(name: str) -> str:
    """A name on the hub as it is, and of a path its last part: a card says nothing about the machine it was made on."""
    is_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    return PurePath(name).name if is_path else name
