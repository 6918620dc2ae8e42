"""Models of item tasks with random weights, as folders, and lines of the files that they read."""

from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig

from data_shards.text.word_pieces import WordPieces
from spe_dist.entity_typing.model import TypingLabels
from spe_dist.extractive_qa.model import QaSettings
from spe_dist.models.saved_encoder import new_sentence_encoder
from spe_dist.multi_choice.model import ChoiceSizes
from spe_dist.sentence_relations.model import RelationLabels
from spe_dist.sentence_relations.rows import MARKERS
from spe_dist.tasks import TASKS
from tests.unit.spe_dist.tiny_run import DEBUG_VOCAB

DESCRIPTIONS: dict[str, Any] = {
    "sentence_relations": RelationLabels(("owns", "runs"), "NA", "mean", 64, "en"),
    "entity_typing": TypingLabels(("person", "place"), 64, 0.5, "en"),
    "multi_choice": ChoiceSizes(0, 64, 8, 16, "en"),
    "extractive_qa": QaSettings(64, 16, 32, 8, 3, "en"),
}


def line_of(task: str, number: int) -> dict[str, Any]:
    """An item of its own length, without a label, whose id is its number."""
    begin, name = 7 * number % 5, str(number)
    words = ["the"] * begin + ["Ann", "runs", "Acme"]
    match task:
        case "sentence_relations":
            return {"id": name, "token": words, "h": {"pos": [begin, begin + 1]}, "t": {"pos": [begin + 2, begin + 3]}}
        case "entity_typing":
            return {
                "annot_id": name,
                "left_context_token": words[:-1],
                "mention_span": "Acme",
                "right_context_token": [],
            }
        case "multi_choice":
            return {"id": name, "query": "owner ann", "candidates": ["acme", "the"], "supports": [" ".join(words)]}
    return {"id": name, "question": "Who runs?", "context": " ".join(words)}


def save_untrained(task: str, folder: Path) -> Path:
    torch.manual_seed(0)
    word_pieces = WordPieces.load(str(DEBUG_VOCAB))
    vocabulary = word_pieces.vocab_size + (MARKERS if task == "sentence_relations" else 0)
    config = BertConfig(vocab_size=vocabulary, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=24, max_position_embeddings=64)  # fmt: skip
    built = TASKS[task].task_class()(None)
    model = built.new_model(DESCRIPTIONS[task], new_sentence_encoder(config))
    built.save(folder, model, DESCRIPTIONS[task], word_pieces, model.state_dict())
    return folder
