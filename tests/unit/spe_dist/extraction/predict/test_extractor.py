"""The extractor on raw text against the plain way: sentence by sentence, word by word, one at a time.

`SPE_DIST_FUZZ=10000` gives it as many random texts (ten minutes).
"""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import spe_dist
from data_shards.annotated.annotated_sentence import AnnotatedSentence
from data_shards.errors import UserError
from data_shards.ragged import Ragged
from data_shards.shards.record import Records
from data_shards.text.sentences import split_sentences
from spe_dist.extraction.model.encoded_sentences import encode_sentences
from spe_dist.extraction.model.extractor_model import ExtractorModel
from spe_dist.extraction.predict import extractor as module
from spe_dist.extraction.predict.extracted_text import ExtractedText
from spe_dist.extraction.predict.extractor import Extractor
from spe_dist.extraction.predict.html_page import html_page
from spe_dist.extraction.predict.prediction import batches_by_length, predict
from spe_dist.extraction.predict.terminal_text import terminal_text
from tests.forked import clean_environment
from tests.unit.spe_dist.extraction.lively import LABELS, RAW_TEXTS, WORDS, lively, lively_model, save_lively
from tests.unit.spe_dist.extraction.tiny import word_pieces

FUZZED = int(os.environ.get("SPE_DIST_FUZZ", "25"))
fuzz = settings(
    max_examples=FUZZED, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
CPU = torch.device("cpu")
LONG = "the Acme office of Paris hired Marie Curie , who was born in Warsaw and lives in London , " * 12
TEXTS = [
    "Marie Curie was born in Warsaw. She lived in Paris!\n\nNothing here.  ",
    "",
    LONG + ". Ann works for Acme Inc.",  # several windows
    " \n\t",
    "Warsaw",
    "The Acme office of Paris hired Marie Curie, who lives in Warsaw. In Rome lives Ann, who works for Acme Inc.",
    *(f"In {place} lives {name}, who works for Acme Inc." for place in ("Paris", "Rome") for name in ("Ann", "Bob")),
]


def facts(found: ExtractedText) -> tuple[list, list]:
    """All but the scores."""
    return [(e.start, e.end, e.type) for e in found.entities], [(r.head, r.tail, r.type) for r in found.relations]


def scores(texts: list[ExtractedText]) -> np.ndarray:
    return np.array([part.score for text in texts for part in (*text.entities, *text.relations)])


def test_a_pickled_extractor_gives_the_same_and_holds_the_weights_once(tmp_path):
    extractor = Extractor.from_pretrained(save_lively(tmp_path / "model"), batch_size=7, min_entity_score=0.3)
    texts = [*TEXTS, "Marie Curie [SEP] was born in [MASK] Warsaw."]  # no special pieces, but text
    expected, data = extractor(texts), pickle.dumps(extractor)
    again = pickle.loads(data)  # noqa: S301
    assert again(texts) == expected and (again.batch_size, again.min_entity_score) == (7, 0.3)
    assert again.precision == "fp32" and not again._model.training
    weights = sum(weight.nbytes for weight in extractor._model.state_dict().values())
    assert weights < len(data) < 1.5 * weights + 20_000
    asked = Extractor(lively_model(), word_pieces(), device="cpu", precision="bf16")
    halved = pickle.loads(pickle.dumps(asked))  # noqa: S301
    assert halved(texts) == asked(texts) and (halved.device.type, halved.precision) == ("cpu", "bf16")


def by_words(words: list[str]) -> AnnotatedSentence:
    encoded = encode_sentences([AnnotatedSentence(tuple(words))], LABELS, word_pieces(), max_pieces=64)
    return predict(lively_model(), encoded, batch_size=1, device=CPU)[0]


def test_raw_text_gives_what_its_sentences_give_as_words():
    found = lively()(TEXTS)
    assert sum(len(text.entities) for text in found) > 30
    assert sum(len(text.relations) for text in found) > 30
    later = [r for text in found for sentence in list(text.by_sentence())[1:] for r in sentence.relations]
    assert later and min(min(r.head, r.tail) for r in later) > 0
    for text, extracted in zip(TEXTS, found, strict=True):
        entities, relations = [], []
        for sentence, place in zip(split_sentences(text), extracted.sentences, strict=True):
            assert text[slice(*place)] == sentence
            words = word_pieces().words(sentence)
            expected, first = by_words(words), len(entities)
            starts, at = [], place[0]
            for word in words:
                starts.append(text.index(word, at))
                at = starts[-1] + len(word)
            for entity in expected.entities:
                last = entity.word_end - 1
                entities.append((starts[entity.word_start], starts[last] + len(words[last]), entity.type))
            relations += [(first + r.head, first + r.tail, r.type) for r in expected.relations]
        assert facts(extracted) == (entities, relations)


def test_words_keep_their_numbers():
    words = ["Marie", "\x00", "", "New York", "was", "\ud800", "born", "in", "Warsaw", "."] * 12
    (found,) = lively()([words])
    expected = by_words([word.replace("\ud800", "\ufffd") for word in words])
    assert [(e.token_start, e.token_end, e.type) for e in found.entities] == [
        (e.word_start, e.word_end, e.type) for e in expected.entities
    ]
    assert found.entities and found.tokens == tuple(words)
    for entity in found.entities:
        assert (
            entity.text
            == " ".join(words[entity.token_start : entity.token_end])
            == found.text[entity.start : entity.end]
        )
    written = found.as_json()
    assert written["tokens"] == words and "text" not in written
    assert [e["start"] for e in written["entities"]] == [e.token_start for e in found.entities]
    assert [e["char_start"] for e in written["entities"]] == [e.start for e in found.entities]


def test_scores_are_probabilities_of_the_decisions():
    words = ["Marie", "Curie", "was", "born", "in", "Warsaw", "."]
    (found,) = lively()([words])
    model = lively_model()
    encoded = encode_sentences([AnnotatedSentence(tuple(words))], LABELS, word_pieces(), max_pieces=64)
    batch = encoded.batch(np.array([0]))
    inside = model._encode(batch)
    spans = np.array([[entity.token_start, entity.token_end] for entity in found.entities])
    types = model.types(model._span_vectors(model.span_encoder, inside, spans)).detach().softmax(dim=1).max(dim=1)
    tags = model.detector(inside.words, batch.word_offsets).detach().softmax(dim=1).max(dim=1).values
    wanted = [float(tags[start:end].prod() * best) for (start, end), best in zip(spans, types.values, strict=True)]
    assert [entity.score for entity in found.entities] == pytest.approx(wanted, rel=1e-4)
    assert [LABELS.entity_types.index(entity.type) for entity in found.entities] == types.indices.tolist()


def test_windows_do_not_lose_scores():
    (found,) = lively()([TEXTS[2]])
    assert found.entities[-1].end > len(LONG) - 60 and len(found.entities) > 20
    assert len(found.relations) > 20
    assert all(0 < fact.score <= 1 for fact in (*found.entities, *found.relations))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_else_is_in_a_batch_or_a_stream_changes_nothing(precision, monkeypatch):
    """In bf16 rounding depends on the shape of a batch, so a close decision may fall otherwise."""
    texts = [*TEXTS, *(" ".join(text.split()[:number]) for text in TEXTS for number in range(1, 20, 3))]
    one, many = lively(1, precision), lively(256, precision)
    alone = [one([text])[0] for text in texts]
    monkeypatch.setattr(module, "_PORTION_TEXTS", 5)
    runs = [many(texts), list(one.stream(iter(texts))), many([*TEXTS[2:], *texts])[len(TEXTS) - 2 :]]
    expected = [facts(text) for text in alone]
    for run in runs:
        if precision == "fp32":
            assert [facts(text) for text in run] == expected
            assert np.abs(scores(run) - scores(alone)).max() < 1e-4
        else:
            equal = np.mean([facts(text) == wanted for text, wanted in zip(run, expected, strict=True)])
            assert equal > 0.9


@pytest.fixture
def threads():
    """Set how many torch has, for a test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_threads_share_the_batches_and_find_the_same(threads, monkeypatch):
    extract, widths, all_work = ExtractorModel.extract, {}, threading.Barrier(4)

    def watched(model, batch):
        name = threading.current_thread().name
        if name not in widths and name != "MainThread":
            all_work.wait(timeout=60)
        widths.setdefault(name, set()).add(torch.get_num_threads())
        return extract(model, batch)

    monkeypatch.setattr(ExtractorModel, "extract", watched)
    threads(1)
    alone = lively(batch_size=2)(TEXTS * 5)
    assert widths.pop("MainThread") == {1} and not widths
    threads(6)
    shared = lively(batch_size=2)(TEXTS * 5)
    assert sorted(widths.values(), key=max) == [{1}, {1}, {2}, {2}]
    assert threads_of_a_new_thread() == 6
    assert [facts(found) for found in shared] == [facts(found) for found in alone]
    np.testing.assert_allclose(scores(shared), scores(alone), atol=1e-5)


def threads_of_a_new_thread() -> int:
    with ThreadPoolExecutor() as pool:
        return pool.submit(torch.get_num_threads).result()


def test_a_single_batch_has_all_threads(threads, monkeypatch):
    extract, widths = ExtractorModel.extract, []

    def watched(model, batch):
        widths.append(torch.get_num_threads())
        return extract(model, batch)

    monkeypatch.setattr(ExtractorModel, "extract", watched)
    threads(5)
    assert lively()(TEXTS[:1])[0].entities and lively()([]) == []
    assert widths == [5]


def test_a_batch_that_fails_ends_a_stream_of_several_threads(threads, monkeypatch):
    def fail(model, batch):
        raise RuntimeError("no memory")

    threads(2)
    monkeypatch.setattr(ExtractorModel, "extract", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        lively(batch_size=1)(TEXTS)
    assert threads_of_a_new_thread() == 2


def test_few_kernels_are_kept_unless_somebody_says_how_many(monkeypatch):
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    monkeypatch.setenv(name, "7")
    Extractor(lively_model(), word_pieces())
    assert os.environ[name] == "7"
    monkeypatch.delenv(name)
    Extractor(lively_model(), word_pieces())
    assert os.environ[name] == "256"


def test_a_stream_reads_no_further_than_it_must(monkeypatch):
    monkeypatch.setattr(module, "_PORTION_TEXTS", 4)
    read = []

    def texts():
        for number in range(100):
            read.append(number)
            yield f"Ann {number} lives in Paris."

    sentences = []
    stream = lively(2).stream(texts(), told=sentences.append)
    first = next(stream)
    assert sentences == [2, 2]  # before the first text of a portion of four comes
    assert first.text.startswith("Ann 0")
    assert len(read) == 8
    assert [text.text for text in stream] == [f"Ann {number} lives in Paris." for number in range(1, 100)]
    assert next(lively().stream(texts())).text == first.text  # and one that is left alone ends


def test_what_a_stream_is_given_must_be_text():
    with pytest.raises(TypeError, match=r"\[text\]"):
        lively()("Marie Curie")
    for wrong in (3, None, b"x", ["a", 3]):
        with pytest.raises(TypeError, match="must be a string, or a list of words"):
            lively()([wrong])


def check(found: ExtractedText, given: str | list[str]) -> None:
    text = given if isinstance(given, str) else " ".join(given)
    assert found.text == text
    before = 0
    for entity in found.entities:
        assert before <= entity.start < entity.end <= len(text)
        assert text[entity.start : entity.end] == entity.text
        assert entity.type in LABELS.entity_types and 0 < entity.score <= 1
        before = entity.end
    for relation in found.relations:
        ends = [found.entities[number] for number in (relation.head, relation.tail)]
        assert any(all(s <= e.start and e.end <= t for e in ends) for s, t in found.sentences)
    assert [e for s in found.by_sentence() for e in s.entities.values()] == list(found.entities)
    assert [r for s in found.by_sentence() for r in s.relations] == list(found.relations)


@pytest.mark.timeout(7200)
@fuzz
@given(st.lists(st.one_of(RAW_TEXTS, WORDS), max_size=6))
def test_no_text_is_too_odd(texts):
    together = lively(256)(texts)
    for given_text, found in zip(texts, together, strict=True):
        check(found, given_text)
        assert facts(found) == facts(lively(1)([given_text])[0])
        json.dumps(found.as_json())
    page = "".join(html_page([("<title>", found) for found in together], LABELS.entity_types))
    shown = page[page.index("</header>") : page.index("<script>")]
    for told in (shown, *(terminal_text(found, LABELS.entity_types, coloured=False) for found in together)):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", told)
    assert set(re.findall(r"</?(\w+)", shown)) <= {
        "header", "article", "h2", "p", "mark", "small", "i", "ul", "li", "bdi", "b", "span",
    }  # fmt: skip


def test_a_text_of_a_hundred_thousand_words_without_an_end():
    """One sentence, in thousands of windows."""
    text = "Marie met Ann in Paris , " * (100_000 // 6 if FUZZED >= 1000 else 2_000)
    (found,) = lively()([text])
    check(found, text)
    assert len(found.sentences) == 1
    assert found.entities[-1].end > len(text) - 60


def test_batches_hold_every_record_once_and_do_not_grow_with_their_length():
    generator = np.random.default_rng(1)
    lengths = generator.integers(0, 500, 1000)
    starts = Ragged.from_lengths(np.zeros(1000, dtype=np.int64), np.ones(1000, dtype=np.int64))
    records = Records(Ragged.from_lengths(np.zeros(lengths.sum()), lengths), starts)
    batches = list(batches_by_length(records, batch_size=64, most_pieces=4000))
    assert sorted(np.concatenate(batches).tolist()) == list(range(1000))
    for batch in batches:
        assert len(batch) <= 64
        assert len(batch) * (lengths[batch].max() + 2) <= 4000
    assert max(map(len, batches)) == 64
    assert [len(batch) for batch in batches_by_length(records, batch_size=9, most_pieces=1)] == [1] * 1000


def test_very_many_pairs_are_classified_in_portions(monkeypatch):
    whole = lively()([TEXTS[2]])[0]
    sizes = []
    classify = ExtractorModel._relation_scores

    def counted(self, *arguments):
        sizes.append(len(arguments[-1]))  # the pairs
        return classify(self, *arguments)

    monkeypatch.setattr(ExtractorModel, "_relation_scores", counted)
    monkeypatch.setattr("spe_dist.extraction.model.extractor_model._MOST_PAIRS", 7)
    parts = lively()([TEXTS[2]])[0]
    assert facts(parts) == facts(whole)
    assert np.abs(scores([parts]) - scores([whole])).max() < 1e-5
    assert max(sizes) == 7 and len(sizes) > 5


def test_a_folder_gives_the_same_elsewhere(tmp_path):
    """Bit for bit, in a process that knows nothing of this one."""
    folder = save_lively(tmp_path / "model")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    here = [score.hex() for score in scores(Extractor.from_pretrained(folder, device="cpu")(TEXTS)).tolist()]
    torch.set_num_threads(threads)
    shutil.move(folder, tmp_path / "elsewhere")
    program = (
        "import json, sys; from spe_dist import Extractor\n"
        f"found = Extractor.from_pretrained(sys.argv[1], device='cpu')({TEXTS!r})\n"
        "print(json.dumps([p.score.hex() for text in found for p in (*text.entities, *text.relations)]))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "elsewhere")]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, timeout=300)
    assert json.loads(done.stdout) == here, done.stderr
    assert len(here) > 60


def test_it_is_where_people_look():
    assert spe_dist.Extractor is Extractor
    assert lively().entity_types == LABELS.entity_types and lively().relation_types == LABELS.relation_types


@pytest.mark.parametrize(("version", "age"), [(1, "an older"), (99, "a newer")])
def test_a_folder_of_another_version_is_named_as_such(tmp_path, version, age):
    folder = tmp_path / "model"
    folder.mkdir()  # as spe_dist wrote it when the architecture was not a setting
    sizes = {"span_encoder": {"kernel_sizes": [2], "channels": 4, "size": 8}, "context_encoder": None}
    types = {"entity_types": ["PER"], "relation_types": ["knows"], "relation_size": 8, "language": "en"}
    pairs = {"pair_encoder": {"attention_size": 8, "position_size": 4}}
    (folder / "extractor.json").write_text(json.dumps(types | sizes | pairs | {"format_version": version}))
    with pytest.raises(UserError, match=f"model is an extractor of format {version}, which {age} spe_dist has written"):
        Extractor.from_pretrained(folder)


@pytest.mark.parametrize("file", ["extractor.json", "extractor.safetensors", "model.safetensors", "config.json"])
def test_a_folder_that_is_not_whole_is_refused(tmp_path, file):
    folder = save_lively(tmp_path / "model")
    for damage in (lambda path: path.write_bytes(path.read_bytes()[:50]), lambda path: path.unlink()):
        damage(folder / file)
        with pytest.raises(UserError, match=r"not an extractor|not a complete extractor|malformed") as refused:
            Extractor.from_pretrained(folder)
        assert "\n" not in str(refused.value)


def test_wrong_arguments_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"not an extractor: no extractor\.json there"):
        Extractor.from_pretrained(tmp_path)
    for arguments, complaint in (
        ({"device": "gpu"}, "device 'gpu'"),
        ({"device": "cuda:99"}, "device 'cuda:99'"),
        ({"precision": "fp16"}, "choose one of bf16, fp32"),
        ({"batch_size": 0}, "at least 1"),
    ):
        with pytest.raises(UserError, match=complaint):
            Extractor(lively_model(), word_pieces(), **arguments)
