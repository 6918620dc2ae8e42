"""`spe ner …`: train what finds entities in text, for `spe shards build --ner` and `spe shards annotate`."""

from __future__ import annotations

from dataclasses import dataclass, fields

import tyro

from data_shards.errors import UserError
from data_shards.ner_training import NerTrainingConfig, Score, TrainedNer, train_ner
from launcher.arguments import parse_arguments

USAGE = "usage: spe ner train FILE [FILE …] --out FOLDER [--lowercase]      (spe ner train --help says more)"


@dataclass(frozen=True)
class Train(NerTrainingConfig):
    """Train a small, fast spaCy pipeline that finds entities, and measure it."""

    inputs: tyro.conf.Positional[tuple[str, ...]]


def main(argv: list[str]) -> None:
    """Run `spe ner` with the arguments after these two words.

    Raises:
        UserError: what the person asked for cannot be done.
    """
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        return
    if argv[0] != "train":
        raise UserError(f"there is no command {argv[0]!r}; {USAGE}")
    command: Train = parse_arguments(Train, argv[1:], prog="spe ner train")
    config = NerTrainingConfig(**{field.name: getattr(command, field.name) for field in fields(NerTrainingConfig)})
    print(summary_text(train_ner(config, tell=lambda line: print(line, flush=True))))


def summary_text(result: TrainedNer) -> str:
    """What a training came to, for people."""
    sizes = ", ".join(f"{count:,} {name}" for name, count in result.sentences.items())
    width = max(map(len, ("all types", *result.test.by_type)))
    rows = {"all types": result.test.overall, **result.test.by_type}
    lines = [
        f"{result.folder}: epoch {result.best_epoch} of sentences {sizes}; {result.words_per_second:,.0f} words/s here",
        f"  {'test':{width}}  precision  recall     F1  entities",
        *(_score_line(name, score, width) for name, score in rows.items()),
    ]
    return "\n".join(lines)


def _score_line(name: str, score: Score, width: int) -> str:
    return f"  {name:{width}}  {score.precision:9.1%}  {score.recall:6.1%}  {score.f1:5.1%}  {score.entities:8,}"
