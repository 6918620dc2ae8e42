"""A mention of a sentence, whose types are asked for."""

from __future__ import annotations

from typing import NamedTuple

GENERAL = ("entity", "event", "group", "location", "object", "organization", "person", "place", "time")
"""UFET's nine general types."""
_FINE = """
accident actor agency airline airplane airport animal architect army art artist athlete attack author award
biology body_part bridge broadcast broadcast_station building car cemetery chemistry city coach company computer
conflict country county currency degree department director disease doctor drug education election engineer
ethnic_group facility film finance food game geography god government health heritage holiday hospital hotel
institution instrument internet island language law lawyer league legal leisure library living_thing
mass_transit medicine military mobile_phone monarch mountain music musician music_school natural_disaster news
news_agency other park planet play political_party politician product programming_language protest province rail
railway religion religious_leader restaurant road scientific_method ship sign society software soldier
spacecraft sport stage stock_exchange structure subway team television_channel television_network
television_program theater title train transit transportation treatment water weapon website writing
"""
FINE = frozenset(_FINE.split())
"""UFET's 121 fine types, which stand behind the general ones in its ontology (Choi et al., ACL 2018, section 2)."""


class TypedMention(NamedTuple):
    """A mention, gold or predicted.

    `types` are in no order and without repetition; `scores` are those of the types, in their order.
    """

    id: str
    left: tuple[str, ...]
    mention: tuple[str, ...]
    right: tuple[str, ...]
    types: tuple[str, ...] = ()
    scores: tuple[float, ...] | None = None

    @property
    def question(self) -> tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """All that is not the answer."""
        return self.id, self.left, self.mention, self.right
