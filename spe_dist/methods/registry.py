"""The only place that lists methods.

A package adds one of its own by an entry point, without touching this one; its recipes say `method: mine`:

    [project.entry-points."spe_dist.methods"]
    mine = "my_package.spec:SPEC"                # a MethodSpec

It must be installed wherever ranks run. A recipe, which may come from anywhere, can name only what is installed so: it
cannot make the program import what it likes.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from data_shards.errors import UserError
from spe_dist.config import Config
from spe_dist.methods.method_spec import MethodSpec

GROUP = "spe_dist.methods"
_BUILT_IN = (
    EntryPoint("spe", "spe_dist.methods.spe.spec:SPEC", GROUP),
    EntryPoint("enpar", "spe_dist.methods.enpar.spec:SPEC", GROUP),
    EntryPoint("erica", "spe_dist.methods.erica.spec:SPEC", GROUP),
    EntryPoint("mlm", "spe_dist.methods.mlm.spec:SPEC", GROUP),
    EntryPoint("mtb", "spe_dist.methods.mtb.spec:SPEC", GROUP),
)


def find_method(name: object, *, source: str) -> MethodSpec:
    """The method that a recipe names.

    Args:
        name: under `method`.
        source: source of the recipe, for messages.

    Raises:
        UserError: there is none of that name, or it cannot be imported.
    """
    offered = {point.name: point for point in _BUILT_IN}
    if not isinstance(name, str) or name not in offered:
        offered |= {point.name: point for point in entry_points(group=GROUP) if point.name not in offered}
    if not isinstance(name, str) or name not in offered:
        raise UserError(f"{source}: method is {name!r}; these are offered: {', '.join(offered)}")
    try:
        spec = offered[name].load()
    except (ImportError, AttributeError) as error:
        raise UserError(f"{source}: cannot import the method {name!r} ({offered[name].value}): {error}") from error
    if not isinstance(spec, MethodSpec):
        raise UserError(f"{source}: {offered[name].value}, the method {name!r}, is not a MethodSpec")
    return spec


def spec_of(config: Config) -> MethodSpec:
    """The method of a run."""
    return find_method(config.method, source=f"run {config.run.name}")
