"""`spe shards sample-corpus`: text, documents and annotated data about an invented world."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.files import explain_write_errors


@dataclass(frozen=True)
class SampleCorpus:
    """Write sentences, or documents, about a small invented world, for trying things out.

    All have entities and relations. Build shards from sentences with spe shards build --gold-entities, and from
    documents with spe shards build --documents --format docred.
    """

    out: Path
    """JSON lines file (.jsonl) to write; with --documents, a folder."""
    sentences: int = 20_000
    """Number of sentences of the corpus."""
    documents: int = 0
    """Write this many documents instead of sentences: as text (text.jsonl) with a knowledge base (kb/) whose entities
    they mention, and with all entities and relations (documents.json, in the form of DocRED)."""
    seed: int = 0
    """Random seed for content and wording."""
    annotated: int = 0
    """Also write this many annotated sentences for training (….train.jsonl), as many for testing (….test.jsonl) and
    half as many for dev (….dev.jsonl). No sentence is in two files or in the corpus. With --documents, this is the
    number of annotated documents (train.json, test.json, dev.json)."""
    negatives: int = 0
    """Also write this many sentences with two or more entities and no relation (….negatives.jsonl), for measuring false
    relations. No sentence is in another file."""


def run_sample_corpus(command: SampleCorpus) -> None:
    """Write a sample corpus."""
    from data_shards.sample.corpus import generate_annotated, write_annotated, write_corpus
    from data_shards.sample.documents import write_documents

    if command.sentences < 1 or min(command.documents, command.annotated, command.negatives) < 0:
        raise UserError("--sentences must be at least 1; --documents, --annotated and --negatives not negative")
    sizes = {"train": command.annotated, "dev": (command.annotated + 1) // 2, "test": command.annotated}
    if command.documents:
        if command.negatives:
            raise UserError("--negatives are sentences: leave it out with --documents")
        with explain_write_errors(command.out):
            write_documents(command.out, documents=command.documents, seed=command.seed, annotated=sizes)
        parts_written = "".join(f", {size:,} in {name}.json" for name, size in sizes.items() if size)
        documents = counted(command.documents, "document")
        print(f"{command.out}: {documents} in text.jsonl and documents.json{parts_written}")
        return
    if command.out.is_dir():
        raise UserError(f"--out {command.out} is a folder: name a file to write")
    write_corpus(command.out, sentences=command.sentences, seed=command.seed)
    print(f"{command.out}: {counted(command.sentences, 'sentence')}")
    parts = generate_annotated(
        tuple(sizes.values()), sentences=command.sentences, seed=command.seed, negatives=command.negatives
    )
    for name, part in zip((*sizes, "negatives"), parts, strict=True):
        if part:
            path = command.out.with_suffix(f".{name}.jsonl")
            write_annotated(path, part)
            print(f"{path}: {counted(len(part), 'annotated sentence')}")
