"""An extracted text for a terminal: entities marked where they stand, relations below their sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spe_dist.extraction.predict.extracted_text import ExtractedText, Nested, nest

_BACKGROUNDS = (153, 222, 157, 217, 183, 228, 159, 250)  # of 256 colours, light: the text on them is black
_RESET, _BOLD, _FAINT = "\x1b[0m", "\x1b[1m", "\x1b[2m"
# Text must not be able to give orders to the terminal, nor turn around what is printed after it.
_CONTROLS = {number: chr(0x2400 + number) for number in range(32) if chr(number) not in "\n\t"} | {0x7F: "\u2421"}
_CONTROLS |= dict.fromkeys([*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd")


def visible(text: str) -> str:
    """A text of the same length with signs in place of control characters, newlines and tabs excepted."""
    return text.translate(_CONTROLS)


def terminal_text(extracted: ExtractedText, entity_types: Sequence[str], *, coloured: bool) -> str:
    """One or more lines for each sentence, and an empty one after the text.

    Args:
        extracted: the text.
        entity_types: entity types of the model; a type has the same colour in every text.
        coloured: by escape sequences; otherwise entities stand in brackets.
    """
    colours = {kind: _BACKGROUNDS[number % len(_BACKGROUNDS)] for number, kind in enumerate(entity_types)}
    lines = []
    for sentence in extracted.by_sentence():
        roots, crossing = nest(sentence.entities)
        lines.append(_marked(extracted.text, roots, sentence.start, sentence.end, colours if coloured else {}))
        lines += [f"    also: {visible(entity.text)} {visible(entity.type)}" for entity in crossing.values()]
        for relation in sentence.relations:
            ends = (sentence.entities[number] for number in (relation.head, relation.tail))
            head, tail = (visible(" ".join(entity.text.split())) for entity in ends)
            arrow = f"── {visible(relation.type)} {relation.score:.2f} ─▶"
            lines.append(f"    {head} {_FAINT}{arrow}{_RESET} {tail}" if coloured else f"    {head} {arrow} {tail}")
    return "\n".join([*lines, "", ""])


def _marked(text: str, nodes: Sequence[Nested], start: int, end: int, colours: Mapping[str, int]) -> str:
    parts, at = [], start
    for node in nodes:
        entity, kind = node.entity, visible(node.entity.type)
        parts.append(visible(text[at : entity.start]))
        inside = _marked(text, node.inside, entity.start, entity.end, {})  # a colour inside a colour would end both
        if colours:
            parts.append(f"\x1b[30;48;5;{colours[entity.type]}m {inside} {_BOLD}{kind} {_RESET}")
        else:
            parts.append(f"[{inside} {kind}]")
        at = entity.end
    return "".join([*parts, visible(text[at:end])])
