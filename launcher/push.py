"""`spe push FOLDER USER/MODEL`: share an extractor or an exported encoder on the Hugging Face hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from data_shards.errors import UserError
from data_shards.hub import may_be_hub_name
from launcher.arguments import parse_arguments


@dataclass(frozen=True)
class Push:
    """Share a model on the Hugging Face hub: an extractor (RUN/seed-N/model) or an exported encoder (RUN/export).

    In a shell:
        hf auth login                                           # once; or set HF_TOKEN
        spe push runs/people/seed-1/model ann/people --license mit
        spe predict ann/people --text "Marie Curie was born in Warsaw."

    The model's files and its model card are uploaded in one commit, weights as safetensors only. The card's metadata
    come from its front matter; fields that are missing there (language, base model, scores of the fine-tuning) come
    from the run. What is not known is left out.
    """

    folder: tyro.conf.Positional[Path]
    """Folder of the model."""
    name: tyro.conf.Positional[str]
    """Name on the hub: USER/MODEL or ORGANISATION/MODEL. The repository is created if it does not exist."""
    private: bool = False
    """Create a private repository, which only you and your organisation can see. Fails if it is already public."""
    revision: str | None = None
    """Branch to upload to, created if it does not exist. Default: the main branch."""
    license: str | None = None
    """Licence of the model as an identifier of the hub, such as mit or cc-by-4.0. Default: the card's, or none."""
    language: str | None = None
    """Language of the texts, as an ISO 639 code, or multilingual. Default: the card's or, if it names none, the
    language whose rules the model uses to split words."""
    base_model: str | None = None
    """Model on the hub from which this one was trained. Default: the card's, or the encoder that the run names."""
    dataset: str | None = None
    """Dataset on the hub on which the model was trained, such as conll2003. Default: the card's, or none; without one,
    scores name the file of the data."""
    dry_run: bool = False
    """Print the card's metadata and the files, and upload nothing. Needs no network."""


def main(argv: list[str]) -> None:
    """Look at the model, upload it, and say how to load it."""
    command: Push = parse_arguments(Push, argv, prog="spe push")
    if not may_be_hub_name(command.name):
        raise UserError(f"{command.name} is not a name on the hub: give USER/MODEL")
    from spe_dist.hub.card_metadata import Given, card_of
    from spe_dist.hub.push import Place, push
    from spe_dist.hub.shared_model import read_shared_model

    model = read_shared_model(command.folder)
    given = Given(
        license=command.license, language=command.language, base_model=command.base_model, dataset=command.dataset
    )
    card = card_of(model, command.name, given)
    if command.dry_run:
        print(f"---\n{card.data.to_yaml()}\n---")
    else:
        address = push(model, card, Place(command.name, command.private, command.revision))
    size = sum(path.stat().st_size for path in model.files) / 1e6
    files = f"{len(model.files) + 1} files, {size:,.1f} MB"
    print(f"would push {files}, to {command.name}" if command.dry_run else f"pushed {files}, to {address}")
    revision = f', revision="{command.revision}"' if command.revision else ""
    class_name = "Extractor" if model.kind == "extractor" else "SpanPairModel"
    print(f'  from spe_dist import {class_name}; model = {class_name}.from_pretrained("{command.name}"{revision})')
    if model.left_out:
        print(f"  not pushed, as the model does not need them: {', '.join(model.left_out)}")
    metadata = card.data.to_dict()
    if "license" not in metadata:
        print("  it has no licence, so nobody may use it: --license, such as mit")
    if "language" not in metadata:
        print("  it names no language: --language, such as en")
