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

    Its files are uploaded in one commit, weights as safetensors only, with its model card. The card's metadata are
    those of its own front matter and, where that says nothing, what the run tells: language, base model, and the scores
    of the fine-tuning. What is not known is left out.
    """

    folder: tyro.conf.Positional[Path]
    """Folder of the model."""
    name: tyro.conf.Positional[str]
    """Name on the hub: USER/MODEL or ORGANISATION/MODEL. It is created if it is not there."""
    private: bool = False
    """Only you and your organisation may see it. A model that is public already is refused."""
    revision: str | None = None
    """Branch to upload to, created if it is not there. Default: the main one."""
    license: str | None = None
    """Licence, by the hub's identifiers, such as mit or cc-by-4.0. Default: that of the card, or none."""
    language: str | None = None
    """Language of the texts, as a code of ISO 639, or multilingual. Default: that of the card or, without one, of the
    model's word rules."""
    base_model: str | None = None
    """Model on the hub that it was trained from. Default: that of the card, or the encoder that the run names."""
    dataset: str | None = None
    """Dataset on the hub that it was trained on, such as conll2003. Default: that of the card, or none; scores then
    name the file."""
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
