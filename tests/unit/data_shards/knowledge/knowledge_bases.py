"""Small knowledge bases, and the slow, obvious meaning of one."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from data_shards.knowledge.knowledge_base import KnowledgeBase


def write_kb(
    folder: Path,
    names: Mapping[str, Sequence[str]],
    triples: Sequence[tuple[str, str, str]] = (),
    relations: Mapping[str, str] | None = None,
    titles: Mapping[str, str] | None = None,
) -> Path:
    """A folder as documented, written by hand."""
    folder.mkdir(exist_ok=True)
    tables = {
        "names": [(id, *own) for id, own in names.items()],
        "triples": triples,
        "relations": list((relations or {}).items()),
        "titles": list((titles or {}).items()),
    }
    for name, rows in tables.items():
        (folder / f"{name}.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    return folder


def load_kb(folder: Path, names: Mapping[str, Sequence[str]], *more: object, **others: object) -> KnowledgeBase:
    """The same, loaded."""
    return KnowledgeBase.load(write_kb(folder, names, *more, **others))  # type: ignore[arg-type]
