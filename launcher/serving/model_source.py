"""Where a model comes from: a folder or the hub."""

from __future__ import annotations

from pathlib import Path

from data_shards.hub import fetch_hub_model, is_hub_name

Source = Path | str
"""A folder, or USER/MODEL on the hub; decided once: a folder may be away for a moment, or appear later by that name."""


def source_of(text: str) -> Source:
    """What a person has named."""
    return text if is_hub_name(text) else Path(text)


def folder_of(source: Source) -> Path:
    """The folder, or what the hub has now.

    Raises:
        UserError: the hub does not give it.
    """
    return source if isinstance(source, Path) else fetch_hub_model(source, "extractor.json")
