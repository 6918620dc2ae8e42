"""Random documents about a few names, and a tiny encoder for them."""

import random
from copy import deepcopy

import torch
from transformers import AutoModel, BertConfig

from data_shards.annotated.document import Document, Fact, Mention
from data_shards.text.word_pieces import WordPieces
from spe_dist.models.saved_encoder import new_sentence_encoder
from spe_dist.models.sentence_encoder import SentenceEncoder
from tests.unit.spe_dist.tiny_run import DEBUG_VOCAB

WORDS = [
    "the",
    "of",
    "in",
    "was",
    "born",
    "Marie",
    "Curie",
    "Warsaw",
    "Paris",
    "went",
    "to",
    "city",
    "physicist",
    "1911",
    "zyx-qwv",
    ",",
]
RELATIONS = ["place of birth", "country", "a name of many words " * 4, "spouse"]
POSITIONS = 128


def word_pieces() -> WordPieces:
    return WordPieces.load(str(DEBUG_VOCAB))


def random_document(chance: random.Random, *, sentences: int = 4, entities: int = 5, facts: int = 6) -> Document:
    """Words "\\u200b" have no pieces."""
    words = [
        [chance.choice([*WORDS, "\u200b"]) for _ in range(chance.randint(3, 9))]
        for _ in range(chance.randint(1, sentences))
    ]
    mentions = []
    for entity in range(chance.randint(2, entities)):
        for _ in range(chance.randint(1, 3)):
            sentence = chance.randrange(len(words))
            start = chance.randrange(len(words[sentence]))
            end = min(start + chance.randint(1, 3), len(words[sentence]))
            mentions.append(Mention(start, end, chance.choice(["PER", "LOC"]), entity, sentence))
    chance.shuffle(mentions)
    numbers = sorted({mention.entity for mention in mentions})
    told = [Fact(*chance.sample(numbers, 2), chance.choice(RELATIONS)) for _ in range(chance.randint(0, facts))]
    return Document.of_words(words, mentions, told)


def random_documents(count: int, seed: int = 0, **sizes: int) -> list[Document]:
    chance = random.Random(seed)
    return [random_document(chance, **sizes) for _ in range(count)]


def tiny_encoder(seed: int = 0, positions: int = POSITIONS) -> SentenceEncoder:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=word_pieces().vocab_size,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=positions,
        initializer_range=0.5,  # so that states depend on words
    )
    return new_sentence_encoder(config).eval().requires_grad_(False)


def states_alone(encoder: SentenceEncoder, ids: list[int]) -> torch.Tensor:
    """States of one sequence by plain transformers."""
    config = deepcopy(encoder.model.config)  # transformers notes the attention in it
    plain = AutoModel.from_config(config, attn_implementation="eager", add_pooling_layer=False).eval()
    plain.load_state_dict(encoder.model.state_dict())
    with torch.no_grad():
        return plain(input_ids=torch.tensor([ids])).last_hidden_state[0]
