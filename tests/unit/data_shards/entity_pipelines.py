"""Pipelines that tests make: rules, which need no training."""

from pathlib import Path

import spacy

NAMES = {"Person": ["Ada Lovelace", "Bell"], "Place": ["New York", "London"], "Year": ["1843"]}


def write_ruler(folder: Path, names: dict[str, list[str]] = NAMES, *, lowercase: bool = True) -> str:
    """A pipeline that finds these names, behind a component that has no part in it and must not run."""
    nlp = spacy.blank("en")
    nlp.add_pipe("sentencizer")
    ruler = nlp.add_pipe("entity_ruler")
    attribute = "LOWER" if lowercase else "ORTH"
    patterns = [
        {"label": label, "pattern": [{attribute: word.lower() if lowercase else word} for word in name.split()]}
        for label, all_names in names.items()
        for name in all_names
    ]
    ruler.add_patterns(patterns)
    nlp.to_disk(folder)
    return str(folder)
