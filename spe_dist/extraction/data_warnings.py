"""What makes the scores of a fine-tuning mean less than they seem to, said before it begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spe_dist.extraction.annotated_sentence import AnnotatedSentence
from spe_dist.extraction.data_statistics import find_shared
from spe_dist.extraction.encoded_sentences import Labels


def data_warnings(
    labels: Labels, train: Sequence[AnnotatedSentence], judged: Mapping[str, Sequence[AnnotatedSentence]]
) -> list[str]:
    """One line for each thing that is odd.

    Args:
        labels: that the model tells apart.
        train: the sentences to learn from.
        judged: "dev" and "test", if there is any.
    """
    lines = []
    for name, sentences in judged.items():
        shared = len(find_shared(sentences, train))
        if shared:
            lines.append(
                f"warning: {shared:,} of {len(sentences):,} {name} sentences are learned from too, which makes scores "
                "too good: remove them from one of the two files (spe data check names them)"
            )
        lines += _unknown_types(name, sentences, labels)
    if not any(sentence.relations for sentences in (train, *judged.values()) for sentence in sentences):
        lines.append("warning: no file has a relation: the model will find entities alone")
    return lines


def _unknown_types(name: str, sentences: Sequence[AnnotatedSentence], labels: Labels) -> list[str]:
    found = {
        "entity": {entity.type for one in sentences for entity in one.entities} - set(labels.entity_types),
        "relation": {relation.type for one in sentences for relation in one.relations} - set(labels.relation_types),
    }
    return [
        f"warning: {name} has {kind} types that the training data have not, so that no model can predict them: "
        + ", ".join(sorted(types))
        for kind, types in found.items()
        if types
    ]
