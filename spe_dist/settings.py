"""Settings by their dotted names, and in which of them two configurations differ."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple


class Difference(NamedTuple):
    """A setting with its value in each of two configurations; None where it is missing."""

    key: str
    before: object
    now: object


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Nested settings by their dotted names."""
    flat: dict[str, object] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def differences(before: Mapping[str, Any], now: Mapping[str, Any], *, free: Collection[str] = ()) -> list[Difference]:
    """The settings that differ, sorted by name.

    Args:
        before: nested or dotted.
        now: nested or dotted.
        free: settings, or sections of settings, that may differ.
    """
    one, other = flatten(before), flatten(now)
    keys = (key for key in sorted(one.keys() | other.keys()) if not is_among(key, free))
    return [Difference(key, one.get(key), other.get(key)) for key in keys if one.get(key) != other.get(key)]


def is_among(key: str, names: Collection[str]) -> bool:
    """Whether a setting, or a section that it is in, has one of these names."""
    return any(key == name or key.startswith(f"{name}.") for name in names)


def differences_text(found: Sequence[Difference]) -> str:
    """The first three, for a message."""
    return ", ".join(f"{key} was {before} and is {now}" for key, before, now in found[:3])
