"""A second task, to see that the seam is one: does a sentence hold an entity of some type? Not one of spe_dist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from pydantic.dataclasses import dataclass as checked_dataclass
from torch import nn

from data_shards.annotated.read import read_annotated
from data_shards.ragged import Ragged
from spe_dist.batches.packing import pack
from spe_dist.config import STRICT
from spe_dist.finetuning.config import FinetuneConfig
from spe_dist.finetuning.losses import Losses
from spe_dist.finetuning.measures import share
from spe_dist.finetuning.scoring import Scoring
from spe_dist.finetuning.task import Task


class Judged(NamedTuple):
    text: str
    holds: bool


@dataclass(frozen=True)
class Wanted:
    type: str
    language: str


class HoldsScoring(Scoring[Judged]):
    items, title, measures = "sentences", "accuracy", {"accuracy": share}

    def to_json(self, item):
        return item._asdict()

    def from_json(self, values, number):
        return Judged(values["text"], values["holds"])

    def contributions(self, gold, predicted):
        right = [one.holds == other.holds for one, other in zip(gold, predicted, strict=True)]
        return {"accuracy": np.stack([right, np.ones(len(right))], axis=1).astype(np.int64)}


@checked_dataclass(frozen=True, kw_only=True, config=STRICT)
class HoldsConfig(FinetuneConfig):
    task: Literal["holds"] = "holds"
    wanted: str

    @classmethod
    def task_class(cls):
        return Holds

    @classmethod
    def scoring(cls):
        return HoldsScoring()


class Model(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.sentence_encoder, self.scores = encoder, nn.Linear(encoder.hidden_size, 2)

    def forward(self, packed, truth):
        scores = self.scores(self.sentence_encoder(packed)[packed.sequence_starts[:-1]]).float()
        right = (scores.argmax(1) == truth).sum()
        return Losses(nn.functional.cross_entropy(scores, truth)[None], right[None], torch.tensor([len(truth)]))


class Rows:
    def __init__(self, items, pieces: Ragged, special):
        self.items, self.pieces, self.special, self.num_pieces = items, pieces, special, pieces.lengths

    def __len__(self):
        return len(self.items)

    def batch(self, numbers, device):
        pieces = self.pieces.take(numbers)
        truth = torch.tensor([self.items[number].holds for number in numbers], dtype=torch.int64)
        return pack(pieces.values, pieces.lengths, self.special)[1].to(device), truth.to(device)


class Holds(Task[Judged, Wanted]):
    stem, description, losses = "holds", Wanted, ("holds",)
    scoring = HoldsScoring()

    def read(self, path, *, language):
        found = read_annotated(path, language=language)[0]
        return [Judged(" ".join(one.words), self.config.wanted in {e.type for e in one.entities}) for one in found]

    def describe(self, available, learned, *, language):
        return Wanted(self.config.wanted, language)

    def new_model(self, description, encoder):
        return Model(encoder)

    def encode(self, items, model, word_pieces):
        return Rows(items, word_pieces.encode_sentences([one.text for one in items]).pieces, word_pieces.special_ids)

    def batches(self, rows, epoch, device):
        return lambda numbers: rows.batch(numbers, device)

    @torch.no_grad()
    def predict(self, model, rows, device):
        packed, _ = rows.batch(np.arange(len(rows)), device)
        found = model.scores(model.sentence_encoder(packed)[packed.sequence_starts[:-1]]).argmax(1) == 1
        return [item._replace(holds=holds) for item, holds in zip(rows.items, found.tolist(), strict=True)]
