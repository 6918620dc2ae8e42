"""`spe embeddings RUN --documents FILE --out FOLDER`: entity and pair vectors as a picture, projector files, numbers.

ERICA's Figure 6: entities by type, pairs by relation, before and after pre-training.
"""

from __future__ import annotations

import io
import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from textwrap import fill
from typing import Any

import numpy as np
import tyro
from torch import Tensor

from data_shards.annotated.document import Document
from data_shards.annotated.read import read_documents
from data_shards.counted import counted
from data_shards.errors import UserError
from data_shards.files import explain_write_errors, sha256_of, write_atomically
from launcher.arguments import parse_arguments
from launcher.output import print_json, say, text_aside
from spe_dist.documents.document_pieces import DocumentPieces
from spe_dist.documents.labelled_points import (
    LabelledPoints,
    cut_documents,
    entity_points,
    entity_vectors,
    pair_points,
)
from spe_dist.documents.neighbours import principal_components, purity, purity_by_chance, silhouette
from spe_dist.documents.probes import MAX_PIECES
from spe_dist.engine.world import World
from spe_dist.export.pooled_model import load_pooled_model
from spe_dist.text_table import text_table
from spe_dist.versions import package_versions, this_machine

_NEIGHBOURS = 10
_FEWEST_POINTS = 20
_MOST_COLOURS = 10  # that can be told apart
_LEGEND_WIDTH = 24  # characters
_PICTURE, _MEASURES, _PROJECTOR = "embeddings.png", "embeddings.json", "projector"


@dataclass(frozen=True)
class Embeddings:
    """Write vectors of entities (by type) and of entity pairs (by relation) as a picture of their principal components
    (embeddings.png), numbers (embeddings.json) and files for TensorBoard's projector.

    Prints two measures of how well vectors of the same label cluster, both by cosine: the silhouette (-1 to 1), and the
    purity, which is the share of the ten nearest vectors of other documents that have the same label.
    """  # noqa: D205

    encoder: tyro.conf.Positional[str]
    """Folder of a run or its export, or a Hugging Face encoder."""
    documents: Path
    """Annotated documents with entities and relations, such as DocRED's."""
    out: Path
    """Folder to write."""
    before: str | None = None
    """Second encoder to compare with, such as the one that the run started from; given like the first argument."""
    relations: int = 10
    """Number of relations to show; the most frequent ones are taken."""
    points: int = 2000
    """Number of entities, and of pairs, to draw at random."""
    seed: int = 0
    """Random seed of this draw."""
    json: bool = False
    """Print what embeddings.json holds; the text goes to standard error."""


@dataclass(frozen=True)
class _Encoded:
    """The documents as an encoder sees them."""

    title: str
    cut: list[DocumentPieces]
    entities: Tensor  # vectors of all entities of all documents


@dataclass(frozen=True)
class _Cloud:
    """The points of one kind, and their vectors by each encoder."""

    what: str  # entities or pairs
    by: str
    points: LabelledPoints
    by_chance: float
    vectors: dict[str, Tensor]  # before and after, or after alone
    measures: dict[str, dict[str, float]]


def main(argv: list[str]) -> None:
    """Run `spe embeddings`."""
    command: Embeddings = parse_arguments(Embeddings, argv, prog="spe embeddings")
    for name, value, least in (("relations", command.relations, 2), ("points", command.points, _FEWEST_POINTS)):
        if value < least:
            raise UserError(f"--{name} {value}: give at least {least}")
    with text_aside(command.json):
        measured = _measure(command, argv)
    if command.json:
        print_json(measured)


def _measure(command: Embeddings, argv: Sequence[str]) -> dict[str, Any]:
    """Print and write everything, and return what embeddings.json holds."""
    documents, encoded = _encode(command)
    pairs = pair_points(documents, relations=command.relations)
    clouds = [
        _cloud(command, "entities", "type", entity_points(documents), encoded),
        _cloud(command, "pairs", "relation", pairs, encoded),
    ]
    say(f"\n{_table(clouds, encoded)}\n")
    with explain_write_errors(command.out):
        command.out.mkdir(parents=True, exist_ok=True)
        measured = _measures(command, argv, clouds, encoded)
        write_atomically(command.out / _MEASURES, (json.dumps(measured, indent=1) + "\n").encode())
        _write_projector(clouds, command.out / _PROJECTOR)
        _draw(clouds, encoded, command.out / _PICTURE)
    print(f"{command.out / _PICTURE} and {_MEASURES}")
    print(f"tensorboard --logdir {command.out / _PROJECTOR}      (under PROJECTOR: PCA, t-SNE and UMAP in the browser)")
    return measured


def _encode(command: Embeddings) -> tuple[Sequence[Document], dict[str, _Encoded]]:
    documents: Sequence[Document] = ()
    encoded = {}
    for role, name in (("before", command.before), ("after", command.encoder)):
        if name is None:
            continue
        model, title = load_pooled_model(name)
        documents = documents or read_documents(command.documents, language=model.description.language)[0]
        say(f"{title}: encoding {counted(len(documents), 'document')}")
        encoder = model.sentence_encoder.to(World().device)
        cut = cut_documents(documents, model.word_pieces, max_pieces=min(MAX_PIECES, encoder.max_pieces))
        vectors = entity_vectors(encoder, cut, model.word_pieces.special_ids)
        if not vectors.isfinite().all():
            raise UserError(f"{title}: vectors are not finite; take an earlier checkpoint of the run")
        encoded[role] = _Encoded(title, cut, vectors)
    return documents, encoded


def _cloud(command: Embeddings, what: str, by: str, points: LabelledPoints, encoded: dict[str, _Encoded]) -> _Cloud:
    for one in encoded.values():
        points = points.within(one.cut)
    points = points.draw(command.points, command.seed)
    labels, documents = points.label_numbers, points.documents
    if len(set(points.labels)) < 2 or len(set(documents.tolist())) < 2:
        raise UserError(
            f"{command.documents}: no {what} of different {by}s in two or more documents: give documents with entities "
            "and relations"
        )
    vectors = {role: points.vectors(one.cut, one.entities) for role, one in encoded.items()}
    measures = {
        role: {"silhouette": silhouette(of, labels), "purity": purity(of, labels, documents, most=_NEIGHBOURS)}
        for role, of in vectors.items()
    }
    return _Cloud(what, by, points, purity_by_chance(labels, documents), vectors, measures)


def _table(clouds: Sequence[_Cloud], encoded: dict[str, _Encoded]) -> str:
    header = ("vectors", "encoder", "silhouette", "purity", "by chance")
    rows = [
        (
            f"{len(cloud.points.labels):,} {cloud.what}, {len(set(cloud.points.labels))} {cloud.by}s",
            encoded[role].title,
            f"{measures['silhouette']:+.3f}",
            f"{measures['purity']:.1%}",
            f"{cloud.by_chance:.1%}",
        )
        for cloud in clouds
        for role, measures in cloud.measures.items()
    ]
    return text_table(header, rows, left=2)


def _measures(
    command: Embeddings, argv: Sequence[str], clouds: Sequence[_Cloud], encoded: dict[str, _Encoded]
) -> dict[str, Any]:
    return {
        "command": " ".join(["spe embeddings", *argv]),
        "machine": this_machine(),
        "versions": package_versions(),
        "documents": {"file": command.documents.name, "sha256": sha256_of(command.documents.read_bytes())},
        "encoders": {role: one.title for role, one in encoded.items()},
        **{
            cloud.what: {
                "labels": dict(Counter(cloud.points.labels).most_common()),
                "purity_by_chance": cloud.by_chance,
                **cloud.measures,
            }
            for cloud in clouds
        },
    }


def _write_projector(clouds: Sequence[_Cloud], folder: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    shutil.rmtree(folder, ignore_errors=True)  # of an earlier call
    with SummaryWriter(str(folder)) as writer:
        for cloud in clouds:
            points = cloud.points
            labels = [" ".join(label.split()) for label in points.labels]  # a tab would begin another column
            for role, vectors in cloud.vectors.items():
                writer.add_embedding(
                    np.round(vectors.double().numpy(), 5),  # a third of the digits, and of the file
                    metadata=[list(row) for row in zip(labels, points.names, points.documents.tolist(), strict=True)],
                    metadata_header=[cloud.by, "name", "document"],
                    tag=f"{cloud.what}_{role}",
                )


def _draw(clouds: Sequence[_Cloud], encoded: dict[str, _Encoded], path: Path) -> None:
    from matplotlib.figure import Figure

    columns = len(encoded)
    figure = Figure(figsize=(1.5 + 5.5 * columns, 10.5), layout="constrained")
    for row, cloud in zip(figure.subplots(len(clouds), columns, squeeze=False), clouds, strict=True):
        counts = Counter(cloud.points.labels).most_common()
        labels = np.array(cloud.points.labels)
        for axes, (role, vectors) in zip(row, cloud.vectors.items(), strict=True):
            places, measures = principal_components(vectors).numpy(), cloud.measures[role]
            known = f"{role}: " if columns > 1 else ""
            axes.set_title(
                f"{cloud.what} by {cloud.by}, {known}{PurePath(encoded[role].title).name}\n"
                f"silhouette {measures['silhouette']:+.3f}, purity {measures['purity']:.1%} "
                f"(chance {cloud.by_chance:.1%})",
                fontsize=10,
            )
            axes.set_xticks([])
            axes.set_yticks([])
            drawn = {label: f"C{number}" for number, (label, _) in enumerate(counts[:_MOST_COLOURS])}
            others = ~np.isin(labels, list(drawn))
            axes.scatter(
                *places[others].T, s=7, color="lightgrey", linewidths=0, label="others" if others.any() else ""
            )
            for label, colour in drawn.items():
                name = f"{fill(label, _LEGEND_WIDTH)} ({(labels == label).sum():,})"
                axes.scatter(*places[labels == label].T, s=9, color=colour, alpha=0.75, linewidths=0, label=name)
        row[-1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9, markerscale=3, frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=110)
    write_atomically(path, picture.getvalue())
