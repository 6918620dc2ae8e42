"""Single items of the test data on which two runs differ, the most telling first.

What counts of a prediction is how many of its facts are right, minus how many are wrong, for each kind of facts that
the task names; the first kind decides, the next one where that is equal. Seeds are compared in pairs: equal seeds with
each other if both runs have the same ones, otherwise every seed of one run with every seed of the other. The difference
on an item is the mean over these pairs, second run minus first.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from operator import attrgetter, sub
from textwrap import fill, indent

from data_shards.counted import counted
from spe_dist.finetuning.predictions import FOLDER, GOLD, RunPredictions
from spe_dist.finetuning.scored_run import ScoredRun
from spe_dist.finetuning.scoring import Item, Scoring, ShownFacts, ShownItem
from spe_dist.text_table import text_table

_WIDTH = 100  # of the text of an item, in characters
_INDENT = " " * 4


@dataclass(frozen=True)
class CaseFact:
    """A fact that is annotated, or that a seed found.

    Args:
        kind: as the task names it.
        text: for people.
        right: whether it is annotated.
        first: number of seeds of the first run that found it.
        second: number of seeds of the second run that found it.
    """

    kind: str
    text: str
    right: bool
    first: int
    second: int


@dataclass(frozen=True)
class Case:
    """An item on which one run is better.

    Args:
        line: of the item in the files of predictions, counted from 1.
        text: of the item.
        difference: kind → right minus wrong facts, second run minus first, mean over pairs of seeds.
        pairs_first_better: number of pairs of seeds in which the first run is better.
        pairs_second_better: number of pairs of seeds in which the second run is better.
        facts: by kind, the annotated ones first.
    """

    line: int
    text: str
    difference: dict[str, float]
    pairs_first_better: int
    pairs_second_better: int
    facts: list[CaseFact]


@dataclass(frozen=True)
class Direction:
    """The items on which one of two runs is better.

    Args:
        items: how many there are.
        cases: those with the largest differences, the largest first.
    """

    items: int
    cases: list[Case]


@dataclass(frozen=True)
class Cases:
    """Where two runs differ.

    Args:
        differ: number of items for which some pair of seeds predicted different facts.
        seed_pairs: number of pairs of seeds.
        first_better: where the first run is better.
        second_better: where the second run is better.
    """

    differ: int
    seed_pairs: int
    first_better: Direction
    second_better: Direction


def find_cases(
    scoring: Scoring[Item], first: RunPredictions[Item], second: RunPredictions[Item], *, most: int
) -> Cases:
    """The items on which two runs differ most, in both directions.

    Args:
        scoring: of their task.
        first: a run; both predicted the same items in the same order, which `score_run` has checked.
        second: another run.
        most: number of items to show for each direction.

    Raises:
        UserError: the task does not define the facts of a single item.
    """
    numbers = range(len(first.by_seed)), range(len(second.by_seed))
    pairs = list(zip(*numbers, strict=True) if first.by_seed.keys() == second.by_seed.keys() else product(*numbers))
    compared = []
    for row, item in enumerate(first.gold):
        found = [[scoring.shown(of_seed[row]).facts for of_seed in run.by_seed.values()] for run in (first, second)]
        compared.append(_ComparedItem(row + 1, scoring.shown(item), found, pairs))
    for_first = sorted((one for one in compared if one.total < one.nothing), key=attrgetter("total"))
    for_second = sorted((one for one in compared if one.total > one.nothing), key=attrgetter("total"), reverse=True)
    return Cases(
        sum(one.differs for one in compared),
        len(pairs),
        *(Direction(len(better), [one.case() for one in better[:most]]) for better in (for_first, for_second)),
    )


class _ComparedItem:
    """An item, and the facts that the seeds of two runs found in it.

    Args:
        line: of the item, counted from 1.
        gold: the item.
        runs: of each run, what each seed found.
        pairs: numbers of a seed of the first run and of one of the second.
    """

    def __init__(
        self,
        line: int,
        gold: ShownItem,
        runs: Sequence[Sequence[Mapping[str, ShownFacts]]],
        pairs: Sequence[tuple[int, int]],
    ) -> None:
        self.line, self.gold, self.runs = line, gold, runs
        points = [[self._points(found) for found in run] for run in runs]
        self.of_pairs = [tuple(map(sub, points[1][other], points[0][one])) for one, other in pairs]
        self.total = tuple(map(sum, zip(*self.of_pairs, strict=True)))  # not the mean: whole numbers compare exactly
        self.nothing = (0,) * len(self.total)
        self.differs = any(
            runs[0][one][kind].keys() != runs[1][other][kind].keys() for one, other in pairs for kind in gold.facts
        )

    def _points(self, found: Mapping[str, ShownFacts]) -> tuple[int, ...]:
        """Number of right facts minus number of wrong ones, for each kind."""
        return tuple(
            2 * len(facts.keys() & found[kind].keys()) - len(found[kind]) for kind, facts in self.gold.facts.items()
        )

    def case(self) -> Case:
        """The item as it is reported."""
        means = [total / len(self.of_pairs) for total in self.total]
        return Case(
            self.line,
            self.gold.text,
            dict(zip(self.gold.facts, means, strict=True)),
            sum(points < self.nothing for points in self.of_pairs),
            sum(points > self.nothing for points in self.of_pairs),
            [fact for kind in self.gold.facts for fact in self._facts(kind)],
        )

    def _facts(self, kind: str) -> list[CaseFact]:
        gold = self.gold.facts[kind]
        found = [[of_seed[kind] for of_seed in run] for run in self.runs]
        texts: dict[Hashable, str] = {}
        for facts in chain([gold], *found):
            for key, text in facts.items():
                texts.setdefault(key, " ".join(text.split()))
        return [
            CaseFact(kind, text, key in gold, *(sum(key in of_seed for of_seed in run) for run in found))
            for key, text in texts.items()
        ]


def cases_text(cases: Cases, runs: Sequence[ScoredRun]) -> str:
    """The cases for a terminal.

    Args:
        cases: of two runs.
        runs: the two.
    """
    first, second = (run.name for run in runs)
    items = runs[0].scoring.items
    pairs = f"{counted(cases.seed_pairs, 'pair')} of "
    pairs += "equal seeds" if runs[0].seeds == runs[1].seeds else "seeds, each of one run with each of the other"
    head = (
        f"Predictions differ in {cases.differ} of {runs[0].items} {items}: {second} is better in "
        f"{cases.second_better.items}, {first} in {cases.first_better.items}.\n"
        f"(better: a higher number of right minus wrong facts, mean over {pairs};\n"
        " right: annotated; wrong: not annotated; last columns: number of seeds that found the fact;\n"
        f" line: counted from 1 in {FOLDER}/{GOLD})"
    )
    parts = [head]
    for better, worse, direction in ((second, first, cases.second_better), (first, second, cases.first_better)):
        if direction.cases:
            parts.append(f"{better} better than {worse} ({len(direction.cases)} of {direction.items} shown)")
        parts += [_case_text(number, case, cases, runs) for number, case in enumerate(direction.cases, start=1)]
    return "\n\n".join(parts)


def _case_text(number: int, case: Case, cases: Cases, runs: Sequence[ScoredRun]) -> str:
    first, second = (run.name for run in runs)
    differences = ", ".join(f"{kind} {value:+.1f}" for kind, value in case.difference.items())
    title = (
        f"{number}. line {case.line}, {second} - {first}: {differences}; "
        f"of {counted(cases.seed_pairs, 'pair')} of seeds {second} is better in {case.pairs_second_better}, "
        f"{first} in {case.pairs_first_better}"
    )
    lines = [fill(line, _WIDTH, break_long_words=False, break_on_hyphens=False) for line in case.text.splitlines()]
    tables = []
    for kind in case.difference:
        rows = [
            [
                "right" if fact.right else "wrong",
                fact.text,
                *(f"{found}/{len(run.seeds)}" for found, run in zip((fact.first, fact.second), runs, strict=True)),
            ]
            for fact in case.facts
            if fact.kind == kind
        ]
        tables += [text_table([kind, "", first, second], rows, left=2)] if rows else []
    return "\n".join([title, *(indent(part, _INDENT) for part in (*lines, *tables))])
