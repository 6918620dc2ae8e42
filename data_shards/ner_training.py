"""Gold sentences → a small spaCy pipeline that finds entities: `tok2vec` (hashed embeddings, a CNN) and transitions.

It is made to be fast, as it reads whole corpora: see docs/entities.md for what width and depth cost and bring.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tokenizers.normalizers import BertNormalizer

from data_shards.annotated.document import Document, split_documents
from data_shards.corpus import check_lists_entities, parse_annotated, read_units, resolve_sources
from data_shards.entity_words import words_of_entities
from data_shards.errors import UserError
from data_shards.files import explain_write_errors, write_atomically
from data_shards.manifest import MAX_ENTITY_TYPES
from data_shards.ner_pipeline import SENTENCES_AT_A_TIME, products_of_numpy
from data_shards.offset_trial import try_documents
from data_shards.offset_units import OffsetUnit
from data_shards.word_rules import WordRules

SCORES_NAME = "scores.json"
_ROWS = (5000, 1000, 2500, 500)  # of the hashed tables of norms, prefixes, suffixes and shapes
_UNCASED = BertNormalizer(lowercase=True)


@dataclass(frozen=True)
class NerTrainingConfig:
    """What to learn from, and how large and long."""

    inputs: tuple[str, ...]
    """Words with tags (columns as BIO, a table .csv, .csv.zip), or JSON lines or a JSON list with entities."""
    out: Path
    """Folder for the pipeline; spe shards build --ner and spe shards annotate --ner take it."""
    dev: tuple[str, ...] = ()
    """Files to choose the best epoch with; a tenth of the sentences if not given."""
    test: tuple[str, ...] = ()
    """Files to measure with; a tenth of the sentences if not given."""
    name: str = "ner"
    """Name of the pipeline, in its own description and in manifests."""
    language: str = "en"
    """Whose rules split sentences and words."""
    offsets: OffsetUnit = "characters"
    """What the offsets of entities in JSON lines count: characters (Unicode code points), UTF-16 units as in
    JavaScript and Java, or bytes of UTF-8."""
    lowercase: bool = False
    """Learn from lower-cased text without accents, as an uncased tokenizer leaves it."""
    epochs: int = 8
    """Passes over the sentences; the best one on dev is kept."""
    batch_sentences: int = 64
    """Sentences of a step."""
    width: int = 96
    """Of the vectors of words."""
    depth: int = 2
    """Layers of the CNN; each sees a word more on either side."""
    dropout: float = 0.2
    """While learning."""
    seed: int = 0
    """Of the split, the order and the first weights."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_sentences", "width", "depth"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise UserError(f"dropout must be at least 0 and below 1, not {self.dropout}")


@dataclass(frozen=True)
class GoldSentence:
    """Words and entities (first word, word after the last, type), in order and without overlap."""

    words: tuple[str, ...]
    entities: tuple[tuple[int, int, str], ...]


@dataclass(frozen=True)
class Score:
    """Of entities found: the words and the type must be right."""

    precision: float
    recall: float
    f1: float
    entities: int
    """In the gold annotations."""


@dataclass(frozen=True)
class NerScores:
    """Of a pipeline on sentences that it has not learnt from."""

    overall: Score
    by_type: Mapping[str, Score]
    sentences: int


@dataclass(frozen=True)
class TrainedNer:
    """How it went."""

    folder: Path
    sentences: Mapping[str, int]
    """Of train, dev and test."""
    best_epoch: int
    dev: NerScores
    test: NerScores
    words_per_second: float
    """Of the test sentences, here and now."""


def train_ner(config: NerTrainingConfig, tell: Callable[[str], None] = lambda line: None) -> TrainedNer:
    """Train a pipeline, measure it, and write it with its scores into a folder. The same on every run of a machine.

    Args:
        config: what and how.
        tell: is called with a line for each epoch, and for what is odd in the files.

    Raises:
        UserError: the files hold no entities, are malformed, or the folder cannot be written.
    """
    if config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir())):
        raise UserError(f"{config.out} is there already: name a new folder")
    parts = _read_parts(config, tell)
    training = _Training(config, parts["train"])
    best, best_epoch, weights = None, 0, b""
    for epoch in range(1, config.epochs + 1):
        loss = training.run_epoch()
        scores, _ = training.score(parts["dev"])
        tell(f"epoch {epoch} of {config.epochs}: loss {loss:.2f} a sentence, dev F1 {scores.overall.f1:.1%}")
        if best is None or scores.overall.f1 > best.overall.f1:
            best, best_epoch, weights = scores, epoch, training.weights()
    assert best is not None
    training.load(weights)
    sizes = {name: len(sentences) for name, sentences in parts.items()}
    result = TrainedNer(config.out, sizes, best_epoch, best, *training.score(parts["test"]))
    with explain_write_errors(config.out):
        training.save(config.out)
        write_atomically(config.out / SCORES_NAME, _scores_json(config, result).encode())
    return result


def _scores_json(config: NerTrainingConfig, result: TrainedNer) -> str:
    names = ("language", "lowercase", "epochs", "batch_sentences", "width", "depth", "dropout", "seed")
    document = {
        "settings": {name: getattr(config, name) for name in names},
        "sentences": dict(result.sentences),
        "best_epoch": result.best_epoch,
        "dev": asdict(result.dev),
        "test": asdict(result.test),
    }
    return json.dumps(document, indent=2) + "\n"


def _read_parts(
    config: NerTrainingConfig, tell: Callable[[str], None] = lambda line: None
) -> dict[str, list[GoldSentence]]:
    """The sentences of train, dev and test; what is not given is drawn from the inputs."""
    rest = _read_sentences(config, config.inputs, tell)
    random.Random(config.seed).shuffle(rest)
    tenth = max(1, len(rest) // 10)
    parts = {}
    for name, files in (("dev", config.dev), ("test", config.test)):
        parts[name] = _read_sentences(config, files, tell) if files else rest[:tenth]
        rest = rest if files else rest[tenth:]
    parts["train"] = rest
    for name, sentences in parts.items():
        if not any(sentence.entities for sentence in sentences):
            files = {"dev": config.dev, "test": config.test}.get(name) or config.inputs
            raise UserError(f"{', '.join(files)}: {len(sentences)} sentences for {name}, with no entity: give more")
    types = {type for sentence in rest for _, _, type in sentence.entities}
    if len(types) > MAX_ENTITY_TYPES:
        raise UserError(f"{', '.join(config.inputs)}: {len(types)} types of entities, more than {MAX_ENTITY_TYPES}")
    return parts


def _read_sentences(config: NerTrainingConfig, files: Sequence[str], tell: Callable[[str], None]) -> list[GoldSentence]:
    rules = WordRules(config.language)
    sentences: list[GoldSentence] = []
    with tempfile.TemporaryDirectory() as folder:
        for index, source in enumerate(resolve_sources(files, None, Path(folder))):
            check_lists_entities(source)
            for unit in read_units(source, index, text_field="text"):
                documents, bad_lines = parse_annotated(unit, source.format, "text", config.offsets, config.language)
                if bad_lines:
                    raise UserError(f"{source.name}:{bad_lines[0].line}: {bad_lines[0].reason}")
                if unit.unit_index == 0:
                    for warning in try_documents(documents, config.offsets, config.language, source.name):
                        tell(warning)
                sentences += _sentences_of(documents, rules, config)
    return sentences


def _sentences_of(documents: list[Document], rules: WordRules, config: NerTrainingConfig) -> Iterator[GoldSentence]:
    sentences = split_documents(documents, config.language)
    words, word_offsets = sentences.locate_words(rules)
    types = sorted({mention.type for document in documents for mention in document.mentions})
    found = words_of_entities(words, word_offsets, sentences.entities(types)).entities
    for index, (text, start) in enumerate(zip(sentences.texts, sentences.starts.tolist(), strict=True)):
        of_sentence = (words[word_offsets[index] : word_offsets[index + 1]] - start).tolist()
        entities = tuple((first, last, types[type]) for first, last, type in found.row(index).tolist())
        yield GoldSentence(tuple(_normalized(text[a:b], config.lowercase) for a, b in of_sentence), entities)


def _normalized(word: str, lowercase: bool) -> str:
    if not lowercase:
        return word
    return "".join(_UNCASED.normalize_str(word).split()) or word


class _Training:
    """A pipeline that learns."""

    def __init__(self, config: NerTrainingConfig, sentences: Sequence[GoldSentence]) -> None:
        import spacy

        spacy.util.fix_random_seed(config.seed)
        self._config = config
        self._random = random.Random(config.seed)
        self._nlp = spacy.blank(config.language)
        self._nlp.meta["name"] = config.name
        with products_of_numpy():
            self._nlp.add_pipe("ner", config={"model": _model(config.width, config.depth)})
        self._examples = self._make_examples(sentences)
        self._optimizer = self._nlp.initialize(lambda: self._examples)

    def run_epoch(self) -> float:
        """One pass; the loss of a sentence on average."""
        losses: dict[str, float] = {}
        order = list(self._examples)
        self._random.shuffle(order)
        for start in range(0, len(order), self._config.batch_sentences):
            batch = order[start : start + self._config.batch_sentences]
            self._nlp.update(batch, sgd=self._optimizer, drop=self._config.dropout, losses=losses)
        return float(losses["ner"]) / len(order)

    def score(self, sentences: Sequence[GoldSentence]) -> tuple[NerScores, float]:
        """Scores on sentences, and the words read per second."""
        found = self._nlp.evaluate(self._make_examples(sentences), batch_size=SENTENCES_AT_A_TIME)
        counts = Counter(type for sentence in sentences for _, _, type in sentence.entities)
        by_type = {type: _score(found["ents_per_type"][type], counts[type]) for type in sorted(found["ents_per_type"])}
        overall = _score({key: found[f"ents_{key}"] for key in "prf"}, counts.total())
        return NerScores(overall, by_type, len(sentences)), float(found["speed"])

    def weights(self) -> bytes:
        """All of them."""
        return self._nlp.get_pipe("ner").model.to_bytes()

    def load(self, weights: bytes) -> None:
        """Take up earlier ones."""
        self._nlp.get_pipe("ner").model.from_bytes(weights)

    def save(self, folder: Path) -> None:
        """Write the pipeline."""
        self._nlp.to_disk(folder)

    def _make_examples(self, sentences: Sequence[GoldSentence]) -> list[Any]:
        from spacy.tokens import Doc, Span
        from spacy.training import Example

        examples = []
        for sentence in sentences:
            reference = Doc(self._nlp.vocab, words=sentence.words)
            reference.set_ents([Span(reference, start, end, label=type) for start, end, type in sentence.entities])
            examples.append(Example(Doc(self._nlp.vocab, words=sentence.words), reference))
        return examples


def _score(found: Mapping[str, float | None], entities: int) -> Score:
    precision, recall, f1 = (float(found[key] or 0) for key in "prf")
    return Score(precision, recall, f1, entities)


def _model(width: int, depth: int) -> dict[str, Any]:
    embed = {
        "@architectures": "spacy.MultiHashEmbed.v2",
        "width": width,
        "attrs": ["NORM", "PREFIX", "SUFFIX", "SHAPE"],
        "rows": list(_ROWS),
        "include_static_vectors": False,
    }
    encode = {
        "@architectures": "spacy.MaxoutWindowEncoder.v2",
        "width": width,
        "window_size": 1,
        "maxout_pieces": 3,
        "depth": depth,
    }
    return {
        "@architectures": "spacy.TransitionBasedParser.v2",
        "state_type": "ner",
        "extra_state_tokens": False,
        "hidden_width": 64,
        "maxout_pieces": 2,
        "use_upper": True,
        "tok2vec": {"@architectures": "spacy.Tok2Vec.v2", "embed": embed, "encode": encode},
    }
