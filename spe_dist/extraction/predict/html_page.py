"""Extracted texts as one self-contained page for a browser: entities marked, relations as arcs and as a list.

displaCy draws arcs too, but puts a sentence on one line, 150 pixels for each word; here sentences wrap.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from importlib.resources import files

from spe_dist.extraction.predict.extracted_text import ExtractedEntity, ExtractedSentence, ExtractedText, Nested, nest
from spe_dist.extraction.predict.terminal_text import visible

_PLACES = ("<!-- about -->\n", "<!-- types -->", "<!-- texts -->\n")
_GOLDEN_ANGLE = 137.5  # degrees: hues of neighbouring types are far apart, however many there are


def html_page(
    texts: Iterable[tuple[str, ExtractedText]], entity_types: Sequence[str], *, source: str = ""
) -> Iterator[str]:
    """The page, in parts, as texts come.

    Args:
        texts: each with its title, which may be empty.
        entity_types: entity types of the model; a type has the same colour in every text.
        source: what was read, and by which model; for the page's head.
    """
    template = files("spe_dist.extraction.predict").joinpath("page.html").read_text(encoding="utf-8")
    before, header, end_of_header, after = re.split("|".join(_PLACES), template)
    hues = {kind: round(number * _GOLDEN_ANGLE + 210) % 360 for number, kind in enumerate(entity_types)}
    about = f'<p class="about">{_safe(source)}</p>\n' if source else ""
    types = " ".join(
        f'<button type="button" style="--hue:{hue}" data-entity="{_safe(kind)}">{_safe(kind)} <b></b></button>'
        for kind, hue in hues.items()
    )
    yield f"{before}{about}{header}{types}{end_of_header}"
    number = 0
    for number, (title, text) in enumerate(texts, start=1):
        yield _article(f"{number}. {title}" if title else f"{number}.", text, hues)
    yield after if number else f'<p class="nothing">(no texts)</p>\n{after}'


def _article(heading: str, text: ExtractedText, hues: Mapping[str, int]) -> str:
    sentences = [_sentence(text.text, sentence, hues) for sentence in text.by_sentence()]
    body = "\n".join(sentences) or '<p class="nothing">(no text)</p>'
    return f"<article>\n<h2>{_safe(heading)}</h2>\n{body}\n</article>\n"


def _sentence(text: str, sentence: ExtractedSentence, hues: Mapping[str, int]) -> str:
    roots, crossing = nest(sentence.entities)
    marked = _marked(text, roots, sentence.start, sentence.end, hues)
    also = "".join(
        f" {_mark(number, entity, _safe(entity.text), hues)}" for number, entity in crossing.items()
    )  # they cross another entity: beside the sentence
    return f'<p class="sentence" dir="auto">{marked}{also}</p>{_relations(sentence)}'


def _marked(text: str, nodes: Sequence[Nested], start: int, end: int, hues: Mapping[str, int]) -> str:
    parts, at = [], start
    for node in nodes:
        entity = node.entity
        inside = _marked(text, node.inside, entity.start, entity.end, hues)
        parts += [_safe(text[at : entity.start]), _mark(node.number, entity, inside, hues)]
        at = entity.end
    return "".join([*parts, _safe(text[at:end])])


def _mark(number: int, entity: ExtractedEntity, inside: str, hues: Mapping[str, int]) -> str:
    kind = _safe(entity.type)
    return (
        f'<mark style="--hue:{hues[entity.type]}" data-entity="{number}" data-type="{kind}" '
        f'data-score="{entity.score:.4f}">{inside}<small>{kind} <i>{entity.score:.2f}</i></small></mark>'
    )


def _relations(sentence: ExtractedSentence) -> str:
    if not sentence.relations:
        return ""
    items = []
    for relation in sentence.relations:
        kind = _safe(relation.type)
        head, tail = (_safe(sentence.entities[number].text) for number in (relation.head, relation.tail))
        items.append(
            f'<li data-head="{relation.head}" data-tail="{relation.tail}" data-type="{kind}" '
            f'data-score="{relation.score:.4f}">'
            f"<bdi>{head}</bdi> → <b>{kind}</b> → <bdi>{tail}</bdi> <span>{relation.score:.2f}</span></li>"
        )
    return f"<ul>{''.join(items)}</ul>"


def _safe(text: str) -> str:
    """A text that a page shows as it is."""
    return escape(visible(text))
