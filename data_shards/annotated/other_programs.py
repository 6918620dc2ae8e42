"""Files of other programs, which are not read: what they are and what to do, by the fields of their first item."""

from __future__ import annotations

from data_shards.annotated.json_objects import Item
from data_shards.errors import UserError

_AS_TEXT = "convert each text to text, entities [{type, start, end}] and relations [{type, head, tail}]"
_AS_WORDS = "convert each sentence to tokens, entities [[start, end, type]] and relations"
_UTF16 = ", and add --offsets utf16, as its offsets count UTF-16 units"
_PROGRAMS: tuple[tuple[frozenset[str], str, str], ...] = (
    (frozenset({"data", "predictions"}), "predictions for Label Studio", "import them there, correct and export them"),
    (frozenset({"data", "label"}), "Doccano before 1.6", "rename the field 'data' to 'text'"),
    (frozenset({"%FEATURE_STRUCTURES"}), "INCEpTION (UIMA CAS JSON)", _AS_TEXT + _UTF16),
    (frozenset({"_referenced_fss"}), "INCEpTION (UIMA CAS JSON)", _AS_TEXT + _UTF16),
    (frozenset({"text", "denotations"}), "PubAnnotation", _AS_TEXT),
    (frozenset({"text", "ents"}), "spaCy (Doc.to_json)", "rename the field 'ents' to 'spans'"),
    (frozenset({"token", "subj_start"}), "TACRED", _AS_WORDS),
    (frozenset({"tokens", "ner_tags"}), "a tagging data set", f"{_AS_WORDS}; words with tags in columns are read by "
     "spe shards build"),
)  # fmt: skip


def refuse_other_program(item: Item) -> None:
    """Refuse an item with the fields of a known program, and name that."""
    for fields, program, remedy in _PROGRAMS:
        if fields <= item.value.keys():
            raise UserError(f"{item.where}: this looks like {program}, which is not read: {remedy}")
