"""Windows, targets and decoding against slow loops, and a tiny encoder that learns which name a question asks for."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from data_shards.errors import UserError
from data_shards.text.word_pieces import WordPieces
from launcher.cli import dispatch
from launcher.finetune import read_arguments
from spe_dist.batches.batch import PackedSequences
from spe_dist.extractive_qa.model import ExtractiveQaModel, QaSettings
from spe_dist.extractive_qa.question import Question
from spe_dist.extractive_qa.rows import encode
from spe_dist.extractive_qa.task import ExtractiveQa
from spe_dist.finetuning.data import about_data, read_data
from spe_dist.finetuning.loop import finetune
from tests.distributed.ranks import run_ranks
from tests.unit.spe_dist.tiny_run import DEBUG_VOCAB

CPU = torch.device("cpu")
SETTINGS = QaSettings(max_pieces=24, max_question=5, stride=6, max_answer=4, n_best=7, language="en")


def random_questions(count, seed=0):
    generator = np.random.default_rng(seed)
    words = ["Ann", "antidisestablishmentarianism", "in", "Paris,", "\u200b", "Acme", "wrote", "zzyzx"]
    texts = [" ".join(generator.choice(words, generator.integers(0, 40))) for _ in range(count)]
    questions = []
    for number in range(count):
        context = texts[number // 2]  # two questions share a context
        spans = ()
        if context.strip("\u200b "):
            starts = generator.integers(0, len(context), 2).tolist()
            spans = tuple((start, start + int(generator.integers(1, 30))) for start in [*starts, starts[0]])
        question = " ".join(generator.choice(words, generator.integers(1, 6)))
        questions.append(Question(str(number), question, context, ("x",), spans))
    return questions


class Oracle:
    """Everything once more with lists: pieces, windows, max context, all spans."""

    def __init__(self, question, word_pieces):
        special = word_pieces.special_ids
        located = word_pieces.locate_words([question.context])
        self.ids, self.word, self.characters = [], [], located.characters.tolist()
        for number in range(len(self.characters)):
            row = located.pieces.row(number).tolist()
            self.ids, self.word = self.ids + row, self.word + [number] * len(row)
        asked = word_pieces.encode_sentences([question.question]).pieces.values.tolist()[: SETTINGS.max_question]
        room = SETTINGS.max_pieces - 3 - len(asked)
        self.windows = [(0, min(room, len(self.ids)))]
        while self.windows[-1][1] < len(self.ids):
            start = self.windows[-1][0] + SETTINGS.stride
            self.windows.append((start, min(start + room, len(self.ids))))
        self.begin = len(asked) + 2
        self.sequences = [[special.cls, *asked, special.sep, *self.ids[a:b], special.sep] for a, b in self.windows]
        self.context = question.context

    def pieces_of(self, start, end):
        places = [self.characters[word] for word in self.word]
        return [number for number, (first, last) in enumerate(places) if first < end and last > start]

    def window_of(self, piece):
        def context(window):
            start, end = self.windows[window]
            return min(piece - start, end - 1 - piece) + 0.01 * (end - start)

        there = [number for number, (start, end) in enumerate(self.windows) if start <= piece < end]
        return max(there, key=lambda number: (context(number), -number))

    def spans(self, logits):
        """All (sum, first character, last character), best first."""
        found = []
        for number, (start, end) in enumerate(self.windows):
            scores = logits[tuple(self.sequences[number])]
            for first in range(start, end):
                if self.window_of(first) != number or (first and self.word[first - 1] == self.word[first]):
                    continue
                for last in range(first, min(end, first + SETTINGS.max_answer)):
                    if last + 1 < len(self.ids) and self.word[last + 1] == self.word[last]:
                        continue
                    total = scores[self.begin + first - start][0] + scores[self.begin + last - start][1]
                    found.append((total, self.characters[self.word[first]][0], self.characters[self.word[last]][1]))
        return sorted(found, reverse=True)


def test_windows_targets_and_answers_as_slow_loops():
    word_pieces = WordPieces.load(str(DEBUG_VOCAB))
    questions = random_questions(30)
    rows = encode(questions, SETTINGS, word_pieces, max_pieces=999)
    oracles = [Oracle(question, word_pieces) for question in questions]
    sequences = [sequence for oracle in oracles for sequence in oracle.sequences]
    numbers = np.random.default_rng(1).permutation(len(rows))
    packed, targets, weights = rows.batch(numbers, CPU)
    parts = torch.split(packed.piece_ids, packed.sequence_starts.diff().tolist())
    assert [part.tolist() for part in parts] == [sequences[number] for number in numbers]
    assert rows.num_pieces.tolist() == [len(sequence) - 2 for sequence in sequences]
    expected = []
    for question, oracle in zip(questions, oracles, strict=True):
        for start, end in oracle.windows:
            places = []
            for span in question.spans:
                there = oracle.pieces_of(*span)
                if there and start <= there[0] and there[-1] < end:
                    places.append((oracle.begin + there[0] - start, oracle.begin + there[-1] - start))
            places = places or [(0, 0)]
            expected.append({place: pytest.approx(places.count(place) / len(places)) for place in places})
    given = [
        {tuple(place): weight for place, weight in zip(*pair, strict=True) if weight}
        for pair in zip(targets.tolist(), weights.tolist(), strict=True)
    ]
    assert given == [expected[number] for number in numbers]
    assert {len(one) for one in given} == {1, 2, 3} and 20 < sum((0, 0) in one for one in given) < len(given) - 20

    generator = torch.Generator().manual_seed(0)
    logits = {tuple(sequence): torch.randn(len(sequence), 2, generator=generator) for sequence in sequences}

    def scores(packed):
        parts = packed.piece_ids.split(packed.sequence_starts.diff().tolist())
        padded = torch.full((len(parts), packed.longest, 2), float("-inf"))
        for number, part in enumerate(parts):
            padded[number, : len(part)] = logits[tuple(part.tolist())]
        return padded

    model = SimpleNamespace(scores=scores, settings=SETTINGS)
    predicted = ExtractiveQa(None).predict(model, rows, CPU, batch_size=7)
    for question, oracle, one in zip(questions, oracles, predicted, strict=True):
        best = oracle.spans(logits)[: SETTINGS.n_best]
        assert [(found.start, found.end) for found in one.found] == [(start, end) for _, start, end in best]
        assert all(found.text == question.context[found.start : found.end] for found in one.found)
        shares = torch.tensor([total for total, _, _ in best]).softmax(0).tolist()
        assert [found.score for found in one.found] == pytest.approx(shares, abs=1e-5)
        assert one._replace(found=None) == question
    assert min(len(one.found) for one in predicted) == 0 and max(len(one.found) for one in predicted) == 7


def test_the_loss_is_the_mean_of_both_ends_and_answers():
    states = torch.randn(7, 3, requires_grad=True)
    model = ExtractiveQaModel(SimpleNamespace(hidden_size=3), SETTINGS)
    model.sentence_encoder = lambda packed: states
    starts = torch.tensor([0, 4, 7], dtype=torch.int32)
    packed = PackedSequences(torch.zeros(7, dtype=torch.int64), torch.tensor([0, 1, 2, 3, 0, 1, 2]), starts, 4)
    targets = torch.tensor([[[1, 2], [3, 3]], [[0, 0], [0, 0]]])
    result = model(packed, targets, torch.tensor([[0.75, 0.25], [1.0, 0.0]]))
    begin, end = model.ends(states).unbind(1)
    parts = [(b.log_softmax(0), e.log_softmax(0)) for b, e in zip(begin.split((4, 3)), end.split((4, 3)), strict=True)]
    (b, e), (c, f) = parts
    expected = -(0.75 * (b[1] + e[2]) + 0.25 * (b[3] + e[3]) + c[0] + f[0]) / 2 / 2
    assert result.losses.item() == pytest.approx(expected.item(), rel=1e-5)
    result.losses.sum().backward()
    assert states.grad.isfinite().all() and result.counts.tolist() == [2]


def test_a_small_encoder_reads_every_piece():
    word_pieces = WordPieces.load(str(DEBUG_VOCAB))
    rows = encode([Question("", "Ann", "Paris " * 100)], SETTINGS, word_pieces, max_pieces=9)
    assert (rows.windows.windows.values[1:, 0] <= rows.windows.windows.values[:-1, 1]).all()
    assert rows.windows.left_out.tolist() == [0]


def test_the_recipe_is_the_papers():
    config = read_arguments(["extractive-qa"])[0]
    optimizer, train, model = config.optimizer, config.train, config.model
    assert (optimizer.learning_rate, optimizer.warmup_share, optimizer.weight_decay) == (3e-5, 0.0, 0.0)
    assert (train.epochs, train.batch_size) == (2, 32)
    assert (model.max_pieces, model.stride, model.max_question, model.max_answer, model.n_best) == (
        512,
        128,
        64,
        30,
        20,
    )


def lines(pairs):
    for person, place in pairs:
        context = f"Today {person} works in {place}."
        for question, answer in (("who works?", person), ("where?", place)):
            answers = [{"text": answer, "answer_start": context.index(answer)}]
            yield {"id": f"{person} {question}", "context": context, "question": question, "answers": answers}


def config_in(folder: Path, *more: str):
    people, places = ("Ann", "Bob", "Mary", "John"), ("Paris", "London", "Acme", "Rome")
    learned = [(a, b) for n, a in enumerate(people) for m, b in enumerate(places) if n != m]
    parts = {"train": learned, "dev": list(zip(people, places, strict=True)), "test": [("Mary", "Acme")]}
    for name, pairs in parts.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines(pairs)))
    tiny = [f"--start.tokenizer={DEBUG_VOCAB}", f"--run.folder={folder}", "--encoder.layers=1", "--name=tiny",
            "--encoder.hidden-size=32", "--encoder.heads=2", "--encoder.intermediate-size=48", "--train.precision=fp32",
            "--encoder.max-positions=64", "--encoder.dropout=0", "--optimizer.learning-rate=5e-3", "--train.epochs=18",
            "--train.batch-size=8", "--train.checkpoint-every=0", "--optimizer.heads=1"]  # fmt: skip
    files = [f"--{part}={folder / part}.jsonl" for part in parts]
    return read_arguments(["extractive-qa", "--config", "finetune_extractive_qa_cpu", *files, *tiny, *more])[0]


def test_it_learns_is_scored_and_predicts(tmp_path, caplog):
    config = config_in(tmp_path)
    result = run_ranks(finetune, 1, config)[0]
    assert result.dev == result.test == {"exact_match": 1.0, "f1": 1.0}
    model = Path(config.run_folder) / "seed-42" / "model"
    assert json.loads((model / "extractive_qa.json").read_text())["stride"] == 256
    assert "Trained for extractive_qa" in (model / "README.md").read_text()
    asked = [{"question": "where?", "context": "Today John works in Rome."}, {"question": "where?", "context": " "}]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(line) + "\n" for line in asked))
    asked[1]["question"] = " ".join(["where"] * 99)
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(line) + "\n" for line in asked))
    with caplog.at_level("WARNING"):
        dispatch(["predict", str(model), str(tmp_path / "asked.jsonl"), "--out", str(tmp_path / "out.jsonl")])
        assert not caplog.messages
        dispatch(["predict", str(model), str(tmp_path / "long.jsonl"), "--out", str(tmp_path / "long.out.jsonl")])
    assert caplog.messages == ["1 of 2 questions are longer than the model reads: parts of them were left out"]
    found, nothing = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
    assert found["answer"] == "Rome" and (found["n_best"][0]["start"], found["n_best"][0]["end"]) == (20, 24)
    assert len(found["n_best"]) == 20 and sum(one["score"] for one in found["n_best"]) == pytest.approx(1, abs=1e-2)
    assert nothing == {"id": "1", "question": "where?", "answer": None, "n_best": []}
    with pytest.raises(UserError, match="--text is for tasks that read one text"):
        dispatch(["predict", str(model), "--text", "where?"])


def test_what_data_and_rows_lack_is_said(tmp_path):
    task = config_in(
        tmp_path, f"--test={tmp_path / 'train.jsonl'}", "--model.max-question=1", "--fraction=0.5"
    ).build_task()
    data = read_data(task)
    assert (len(data.train), data.available) == (12, 24)
    warning = next(line for line in about_data(task, data) if line.startswith("warning"))
    assert "of 24 test questions are about a context that is learned from too" in warning
    words = " ".join(["Ann"] * 40)
    long = Question("", "who works?", words, (words,), ((0, len(words)),))
    rows = encode([*data.train, long], SETTINGS, WordPieces.load(str(DEBUG_VOCAB)), max_pieces=24)
    told = task.about_rows(rows, SETTINGS)
    assert "13 questions are read in" in told[0] and "point at [CLS]" in told[0]
    assert told[1].startswith("1 question cannot be learned")
    assert told[2].startswith("1 answer longer than 4 pieces")
