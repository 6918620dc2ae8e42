"""Recipes: a YAML file becomes one checked configuration (and the command line overrides it, see launcher).

Strict on purpose: a key that is misspelt would otherwise train something else for a week.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from data_shards.errors import UserError
from spe_dist.config import Config
from spe_dist.methods.registry import find_method

C = TypeVar("C")


def load_recipe(path: Path) -> Config:
    """Read a recipe of pre-training.

    Raises:
        UserError: the file cannot be read, or a key or value is not allowed; names the file, the key and the nearest
            valid one.
    """
    return config_from_values(read_values(path), source=str(path))


def read_values(path: Path) -> dict[str, Any]:
    """The settings of a recipe, unchecked.

    Raises:
        UserError: the file cannot be read, or holds none.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read the recipe {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not YAML: invalid UTF-8 at byte {error.start + 1}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no settings: a recipe is a mapping of sections (see launcher/recipes)")
    return values


def config_from_values(values: Mapping[str, Any], *, source: str) -> Config:
    """Check nested values against the configuration of their method.

    Raises:
        UserError: one line that names every wrong key and value.
    """
    return checked_config(find_method(values.get("method"), source=source).config, values, source=source)


def checked_config(config_class: type[C], values: Mapping[str, Any], *, source: str) -> C:
    """Check nested values against a kind of configuration.

    Raises:
        UserError: one line that names every wrong key and value.
    """
    try:
        return TypeAdapter(config_class).validate_python(values)
    except ValidationError as error:
        wrong_first = sorted(error.errors(), key=lambda problem: problem["type"] == "missing")
        problems = "; ".join(_describe(problem, config_class) for problem in wrong_first)
        raise UserError(f"{source}: {problems}") from error


def config_values(config: object) -> dict[str, Any]:
    """Nested plain values of a configuration, as YAML and JSON hold them."""
    return TypeAdapter(type(config)).dump_python(config, mode="json")


def config_yaml(config: object) -> str:
    """A configuration as a recipe."""
    return yaml.safe_dump(config_values(config), sort_keys=False)


def with_settings(config: C, settings: Mapping[str, Any], *, source: str) -> C:
    """The same configuration with other settings.

    Args:
        config: as it was.
        settings: by dotted name.
        source: where they were written, for errors.

    Raises:
        UserError: a setting or value is not allowed; it names the setting.
    """
    values = config_values(config)
    for key, value in settings.items():
        *sections, name = key.replace("-", "_").split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise UserError(f"{source} {key}: {section} is a single setting, not a section of settings")
        place[name] = value
    return checked_config(type(config), values, source=source)


def _describe(problem: Mapping[str, Any], config_class: type) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "unexpected_keyword_argument":
        given = "" if problem["type"] == "missing" else f" (given: {problem['input']!r})"
        return f"{key}: {problem['msg'].lower()}{given}"
    nearest = difflib.get_close_matches(key, _all_keys(config_class), n=1, cutoff=0.0)
    return f"unknown key {key!r}, did you mean {nearest[0]!r}?"


def _all_keys(config_class: type, prefix: str = "") -> list[str]:
    keys = []
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        name, kind = prefix + field.name, hints[field.name]
        keys.append(name)
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            keys.extend(_all_keys(kind, f"{name}."))
    return keys
