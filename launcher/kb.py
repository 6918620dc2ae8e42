"""`spe kb …`: make knowledge bases that spe shards build links documents to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.knowledge.conversion import ConversionCounts, convert
from data_shards.knowledge.sources import Dbp15k, OpenKE, Source, Tsv, Wikidata5m
from data_shards.knowledge.wikidata_dump import WikidataDump
from launcher.arguments import parse_arguments

SourceFormat = Literal["tsv", "openke", "dbp15k", "wikidata5m", "wikidata"]
_MARKS: dict[str, SourceFormat] = {  # a file that tells a folder's format
    "names.tsv": "tsv", "entity2id.txt": "openke", "ent_ids_2": "dbp15k", "wikidata5m_entity.txt": "wikidata5m",
}  # fmt: skip
_FOLDERS: dict[SourceFormat, Callable[[Path], Source]] = {"tsv": Tsv, "openke": OpenKE, "dbp15k": Dbp15k}


@dataclass(frozen=True)
class Convert:
    """Merge knowledge bases into one folder of tables: names.tsv, titles.tsv, triples.tsv, relations.tsv.

    Entities with the same id or the same Wikipedia article become one entity. Entities without facts are left out.
    """

    sources: tyro.conf.Positional[tuple[Path, ...]]
    """Knowledge bases: folders of OpenKE (with entity2wikidata.json), DBP15K, Wikidata5m, or one that this command
    wrote; JSON dumps of Wikidata (.json, .json.gz, .json.bz2)."""
    out: Path
    """Folder to write."""
    drop_relations: str | None = None
    """Regular expression: facts of relations whose id or name it matches are left out."""
    format: SourceFormat | None = None
    """Format of all sources. Default: recognised by the files in a folder; a single file is a dump of Wikidata."""
    language: str = "en"
    """Language of a Wikidata dump's labels, aliases and article titles."""
    articles_only: bool = True
    """Keep only those items of a Wikidata dump that have an article in the Wikipedia of --language. Keeping all items
    with a label needs ten times the memory."""
    entities_file: str = "wikidata5m_entity.txt"
    """File of a Wikidata5m folder with an entity's id and names in each line."""
    relations_file: str = "wikidata5m_relation.txt"
    """File of a Wikidata5m folder with a relation's id and names in each line."""
    triples_files: tuple[str, ...] = ()
    """Files of a Wikidata5m folder with head, relation and tail in each line. Default: all wikidata5m_*_train.txt,
    …_valid.txt and …_test.txt, or else wikidata5m_all_triplet.txt."""


def main(argv: list[str]) -> None:
    """Run `spe kb` with the arguments after these two words.

    Raises:
        UserError: what the person asked for cannot be done.
    """
    if argv[:1] != ["convert"]:
        raise UserError("spe kb needs a subcommand: spe kb convert SOURCE … --out FOLDER")
    command: Convert = parse_arguments(Convert, argv[1:], prog="spe kb convert")
    if not command.sources:
        raise UserError("no source: name a knowledge base to convert")
    sources = [source for path in command.sources for source in open_sources(path, command)]
    counts = convert(sources, command.out, drop_relations=command.drop_relations)
    print(counts_text(counts, command.out))


def open_sources(path: Path, command: Convert) -> Iterator[Source]:
    """The knowledge bases at a path: one, or those of the folders in it."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    format = command.format or _format_of(path)
    if format is None:
        folders = [folder for folder in sorted(path.iterdir()) if folder.is_dir() and _format_of(folder)]
        if not folders:
            raise UserError(
                f"{path} is no known knowledge base: none of {', '.join(_MARKS)} is in it; name its format with "
                "--format, or files of another name with --entities-file, --relations-file and --triples-files"
            )
        for folder in folders:
            yield from open_sources(folder, command)
    elif format == "wikidata":
        yield WikidataDump(path, language=command.language, articles_only=command.articles_only)
    elif format == "wikidata5m":
        yield Wikidata5m(path / command.entities_file, path / command.relations_file, _triples_files(path, command))
    else:
        yield _FOLDERS[format](path)


def _format_of(path: Path) -> SourceFormat | None:
    if path.is_file():
        return "wikidata"
    return next((format for mark, format in _MARKS.items() if (path / mark).is_file()), None)


def _triples_files(folder: Path, command: Convert) -> Sequence[Path]:
    if command.triples_files:
        return [folder / name for name in command.triples_files]
    parts = [path for part in ("train", "valid", "test") for path in sorted(folder.glob(f"wikidata5m_*_{part}.txt"))]
    return parts or [folder / "wikidata5m_all_triplet.txt"]


def counts_text(counts: ConversionCounts, out: Path) -> str:
    """What a conversion came to, for people."""
    return "\n".join([
        f"{out}: {counted(counts.entities, 'entity')}, {counted(counts.names, 'name')}, "
        f"{counted(counts.triples, 'fact')}, {counted(counts.relations, 'relation')}",
        f"  entities  {counts.titles:,} with the title of an article, {counts.unnamed:,} without any name; merged "
        f"{counted(counts.merged, 'time')} with one of another source",
        f"  facts     left out: {counts.repeated:,} repeated, {counts.dropped:,} of relations that were dropped",
        f"  relations {counts.unnamed_relations:,} without a name",
    ])  # fmt: skip
