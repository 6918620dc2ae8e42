"""One sentence as items of every format for sentences and documents of words."""

import json
from pathlib import Path

from data_shards.annotated.annotated_sentence import AnnotatedSentence, Entity, Relation

WORDS = ["Ada", "Byron", "lives", "in", "London", "."]
ADA = AnnotatedSentence(tuple(WORDS), (Entity(0, 2, "Person"), Entity(4, 5, "Place")), (Relation(0, 1, "lives in"),))
OBJECTS = {
    "tokens": WORDS,
    "entities": [{"type": "Person", "start": 0, "end": 2}, {"type": "Place", "start": 4, "end": 5}],
    "relations": [{"type": "lives in", "head": 0, "tail": 1}],
}
LISTS = {"tokens": WORDS, "entities": [[0, 2, "Person"], [4, 5, "Place"]], "relations": [[0, 2, 4, 5, "lives in"]]}
DYGIE = {
    "doc_key": "d",
    "sentences": [["Who", "?"], WORDS],
    "ner": [[], [[2, 3, "Person"], [6, 6, "Place"]]],
    "relations": [[], [[2, 3, 6, 6, "lives in"]]],
}
SPE = {
    "sentId": 7,
    "articleId": "d",
    "sentText": " ".join(WORDS),
    "entityMentions": [
        {"emId": "T1", "text": "ada byron", "offset": [0, 2], "label": "Person"},
        {"emId": "T2", "text": "London", "offset": [4, 5], "label": "Place"},
    ],
    "relationMentions": [{"em1Id": "T1", "em2Id": "T2", "em1Text": "Ada", "em2Text": "London", "label": "lives in"}],
    "wordpieceSentText": "[CLS] ada …",
}
DOCRED = {
    "title": "d",
    "sents": [["Ada", "!"], WORDS],
    "vertexSet": [
        [
            {"name": "Ada", "sent_id": 0, "pos": [0, 1], "type": "Person"},
            {"name": "Ada Byron", "sent_id": 1, "pos": [0, 2], "type": "Person"},
        ],
        [{"name": "London", "sent_id": 1, "pos": [4, 5], "type": "Place"}],
    ],
    "labels": [{"h": 0, "t": 1, "r": "P551", "evidence": [1]}],
}


def saved(path: Path, *items: object) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def changed(item: dict, **fields: object) -> dict:
    return {name: value for name, value in (item | fields).items() if value is not None}
