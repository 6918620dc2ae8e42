"""The invented world of the sample corpus: who was born where, who founded what, which town lies in which country.

Everything is drawn from one fixed seed, so that the facts are the same in every run and for every corpus.
Names are put together from parts (`data_shards.sample.words`), so that many of them fall into several word pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import TypeVar

from data_shards.sample import words as words_of

_SEED = 20
_PEOPLE, _COUNTRIES, _REGIONS, _TOWNS, _FIRMS, _TOWN_ORGANISATIONS, _WORKS = 700, 14, 42, 260, 170, 105, 560

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Thing:
    """Something with a name. `facts` point to other things, `traits` are words that describe it."""

    id: str
    type: str
    name: tuple[str, ...]
    the: bool = False  # written with an article, which is no part of the name
    facts: dict[str, Thing] = field(default_factory=dict, repr=False)
    traits: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False)


World = dict[str, tuple[Thing, ...]]  # pool → its things, see `sample_words.POOLS`


@cache
def build_world() -> World:
    """The world: always the same one."""
    rng = Random(_SEED)
    places = _places(rng)
    organisations = _organisations(rng, places["towns"])
    people = _people(rng, places["towns"], organisations)
    _found(rng, organisations, people)
    return {**places, "organisations": organisations, "people": people, "works": _works(rng, places["towns"], people)}


def pick(rng: Random, items: Sequence[_T]) -> _T:
    """One of some items."""
    return items[int(rng.random() * len(items))]  # only `random()` is promised to stay the same across Pythons


def _sample(rng: Random, items: list[_T], count: int) -> list[_T]:
    keyed = sorted((rng.random(), index) for index in range(len(items)))
    return [items[index] for _, index in keyed[:count]]


def _joined(starts: tuple[str, ...], ends: tuple[str, ...]) -> list[str]:
    return [start + end for start in starts for end in ends if start[-1].lower() != end[0]]


def _with_article(noun: str) -> tuple[str, ...]:
    article = "an" if noun[0] in "aeio" else "a"  # no "u": a university
    return (article, *noun.split())


@cache
def _year(year: int) -> Thing:
    return Thing(f"Y{year}", "Year", (str(year),))


def _places(rng: Random) -> World:
    lands = _sample(rng, _joined(words_of.LAND_STARTS, words_of.LAND_ENDS), _COUNTRIES)
    countries = [Thing(f"K{i}", "Place", (name,)) for i, name in enumerate(lands)]
    names = _sample(rng, _joined(words_of.PLACE_STARTS, words_of.REGION_ENDS), _REGIONS)
    regions = [Thing(f"G{i}", "Place", (name,)) for i, name in enumerate(names)]
    for i, region in enumerate(regions):
        region.facts["land"] = countries[i % _COUNTRIES]
    towns = []
    for i, name in enumerate(_sample(rng, _joined(words_of.PLACE_STARTS, words_of.PLACE_ENDS), _TOWNS)):
        first = (pick(rng, words_of.PLACE_FIRST),) if rng.random() < 0.25 else ()
        region = regions[i % _REGIONS]
        kind = pick(rng, ["town", "city", "small town", "market town", "old city", "university town"])
        facts = {"region": region, "country": region.facts["land"]}
        towns.append(Thing(f"C{i}", "Place", (*first, name), False, facts, {"a_kind": _with_article(kind)}))
    for i, country in enumerate(countries):
        country.facts["capital"] = towns[i]  # town i lies in region i, which lies in country i
    return {"countries": tuple(countries), "regions": tuple(regions), "towns": tuple(towns)}


def _organisations(rng: Random, towns: tuple[Thing, ...]) -> tuple[Thing, ...]:
    things = []
    for i, name in enumerate(_sample(rng, _joined(words_of.FIRM_STARTS, words_of.FIRM_ENDS), _FIRMS)):
        full: tuple[str, ...] = (name, pick(rng, words_of.FIRM_TAILS)) if rng.random() < 0.7 else (name,)
        things.append(_organisation(f"O{i}", "company", "company", full, False, pick(rng, towns)))
    for i, town in enumerate(_sample(rng, list(towns), _TOWN_ORGANISATIONS)):
        kind, called, before, after, the = words_of.TOWN_ORGANISATIONS[i % len(words_of.TOWN_ORGANISATIONS)]
        full = (*before.split(), *town.name, *after.split())
        things.append(_organisation(f"O{_FIRMS + i}", kind, called, full, the, town))
    return tuple(things)


def _organisation(key: str, kind: str, called: str, name: tuple[str, ...], the: bool, office: Thing) -> Thing:
    traits = {"kind": tuple(kind.split()), "a_kind": _with_article(called)}
    return Thing(key, "Organisation", name, the, {"office": office}, traits)


def _people(rng: Random, towns: tuple[Thing, ...], organisations: tuple[Thing, ...]) -> tuple[Thing, ...]:
    schools = [o for o in organisations if o.traits["kind"] == ("university",)]
    first_names = _joined(words_of.FIRST_STARTS, words_of.FIRST_ENDS)
    people: list[Thing] = []
    for i, surname in enumerate(_sample(rng, _joined(words_of.LAST_STARTS, words_of.LAST_ENDS), _PEOPLE)):
        trade = words_of.ARTS[i % len(words_of.ARTS)][0] if i % 3 == 0 else pick(rng, words_of.TRADES)
        birth, home = _sample(rng, list(towns), 2)
        facts = {"birth": birth, "home": home, "year": _year(1930 + int(60 * rng.random()))}
        facts |= {"employer": pick(rng, organisations), "school": pick(rng, schools)}
        traits = {"trade": tuple(trade.split()), "a_trade": _with_article(trade)}
        people.append(Thing(f"P{i}", "Person", (pick(rng, first_names), surname), False, facts, traits))
    by_age = sorted(people, key=_birth_year)
    for one, other in zip(by_age[::2], by_age[1::2], strict=True):
        one.facts["spouse"], other.facts["spouse"] = other, one
    return tuple(people)


def _birth_year(person: Thing) -> int:
    return int(person.facts["year"].name[0])


def _found(rng: Random, organisations: tuple[Thing, ...], people: tuple[Thing, ...]) -> None:
    for organisation, founder in zip(organisations, _sample(rng, list(people), len(organisations)), strict=True):
        founded = _birth_year(founder) + 22 + int(12 * rng.random())
        organisation.facts.update(founder=founder, founded=_year(founded))


def _works(rng: Random, towns: tuple[Thing, ...], people: tuple[Thing, ...]) -> tuple[Thing, ...]:
    titles: dict[tuple[str, ...], None] = {}
    while len(titles) < _WORKS:
        titles[_title(rng, towns)] = None
    arts = {art[0]: art for art in words_of.ARTS}
    artists = [person for person in people if " ".join(person.traits["trade"]) in arts]
    works = []
    for i, title in enumerate(titles):
        author = pick(rng, artists)
        _, kind, did, done, out = arts[" ".join(author.traits["trade"])]
        made = _year(_birth_year(author) + 21 + int(14 * rng.random()))
        traits = {"kind": (kind,), "a_kind": _with_article(kind), "did": (did,), "done": (done,)}
        traits["out"] = tuple(out.split())
        works.append(Thing(f"W{i}", "Work", title, False, {"author": author, "made": made}, traits))
    return tuple(works)


def _title(rng: Random, towns: tuple[Thing, ...]) -> tuple[str, ...]:
    adjective, noun = pick(rng, words_of.TITLE_ADJECTIVES), pick(rng, words_of.TITLE_NOUNS)
    shapes: list[tuple[str, ...]] = [
        ("The", adjective, noun),
        (adjective, noun),
        ("The", noun, "and", "the", pick(rng, words_of.TITLE_NOUNS)),
        ("The", noun, "of", *pick(rng, towns).name),
        ("An" if noun[0] in "AIO" else "A", noun, "in", *pick(rng, towns).name),
    ]
    title = pick(rng, shapes)
    return title if len(set(title)) == len(title) else _title(rng, towns)  # not "The Ship and the Ship"
