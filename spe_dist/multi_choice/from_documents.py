"""Questions with given candidates, made of documents with entities and relations: a stand-in for WikiHop.

A question asks for the tail of a head and a relation that have exactly one in a document. Candidates are the entities
of the tail's type, without the head; supports are the document's sentences.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from data_shards.annotated.document import Document
from spe_dist.multi_choice.question import MASKS, Question

SEVERAL_TAILS, ALONE, TOO_MANY = "several_tails", "alone", "too_many"
_MASKING = 11  # keeps these random numbers apart from others of the same seed


def questions_of_documents(
    documents: Sequence[Document], left_out: Counter[str], *, masked: bool, seed: int, language: str
) -> Iterator[Question]:
    """The questions of documents, in their order; the same ones masked or not.

    A candidate is called by the first mention that is listed of it; entities of one name are one candidate. Masked,
    each candidate of a question has a random number below `MASKS`, which stands for its mentions and for its name.

    Args:
        documents: with relations.
        left_out: counts (head, relation) with several tails, those without another candidate, and those with more
            candidates than there are masks.
        masked: whether mentions of candidates are replaced.
        seed: seed of the numbers.
        language: whose rules cut a document that is a text into sentences (a spaCy language code).
    """
    for number, document in enumerate(documents):
        names, types = _entities(document)
        tails: dict[tuple[int, str], set[int]] = defaultdict(set)
        for fact in document.facts:
            if fact.head in names and fact.tail in names:
                tails[fact.head, fact.type].add(fact.tail)
        sentences = document.locate_sentences(language)
        source = f"{number}: {document.name}" if document.name else str(number)
        for count, ((head, relation), (tail, *others)) in enumerate(tails.items()):
            entities = [one for one in names if types[one] == types[tail] and one != head]
            candidates = {names[one] for one in entities}
            if others:
                left_out[SEVERAL_TAILS] += 1
            elif len(candidates) < 2:
                left_out[ALONE] += 1
            elif len(candidates) > MASKS:
                left_out[TOO_MANY] += 1
            else:
                called = {name: name for name in sorted(candidates)}
                if masked:
                    random = np.random.Generator(
                        np.random.Philox(np.random.SeedSequence((_MASKING, seed, number, count)))
                    )
                    drawn = random.permutation(MASKS)
                    called = {name: f"___MASK_{mask}___" for name, mask in zip(called, drawn.tolist(), strict=False)}
                replaced = {one: called[names[one]] for one in entities} if masked else {}
                yield Question(
                    f"{number}-{count}",
                    f"{'_'.join(relation.split())} {names[head]}",
                    tuple(sorted(called.values())),
                    _supports(document, sentences, replaced),
                    called[names[tail]],
                    document=source,
                )


def _entities(document: Document) -> tuple[dict[int, str], dict[int, str]]:
    """Name and type of each entity that is mentioned, by its number."""
    names: dict[int, str] = {}
    types: dict[int, str] = {}
    for mention, (start, end) in zip(document.mentions, document.characters(), strict=True):
        names.setdefault(mention.entity, " ".join(document.text[start:end].split()))
        types.setdefault(mention.entity, mention.type)
    return names, types


def _supports(document: Document, sentences: Sequence[tuple[int, int]], replaced: dict[int, str]) -> tuple[str, ...]:
    """The sentences, with other words for the mentions of some entities; of mentions that overlap the longest goes."""
    mentions = [
        (start - end, start, end, replaced[mention.entity])
        for mention, (start, end) in zip(document.mentions, document.characters(), strict=True)
        if mention.entity in replaced
    ]
    taken: list[tuple[int, int, str]] = []
    for _, start, end, name in sorted(mentions):
        if all(end <= other or start >= other_end for other, other_end, _ in taken):
            taken.append((start, end, name))
    taken.sort()
    supports = []
    for begin, finish in sentences:
        inside = [(start, end, name) for start, end, name in taken if begin <= start and end <= finish]
        cuts = [begin, *(place for start, end, _ in inside for place in (start, end)), finish]
        between = [document.text[a:b] for a, b in list(pairwise(cuts))[::2]]
        parts = [part for text, (_, _, name) in zip(between, inside, strict=False) for part in (text, f" {name} ")]
        supports.append(" ".join("".join([*parts, between[-1]]).split()))
    return tuple(supports)
