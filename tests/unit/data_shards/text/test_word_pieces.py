"""Our pieces against Hugging Face's own, on random text."""

import random
import time
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

import data_shards
from data_shards.errors import UserError
from data_shards.sample.corpus import generate
from data_shards.text.word_pieces import WordPieces
from data_shards.tokenizer.wordpiece import SPECIAL_PIECES, train_vocabulary

DEBUG_VOCAB = str(Path(data_shards.__file__).with_name("debug_vocab.txt"))
TEXTS = [" ".join(sentence.words) for sentence in generate(400, seed=9)]
ODD = [
    "U.S.",
    "don't",
    "x[SEP]y",
    "naïve",
    "Überraschung",
    "中文",
    "🙂",
    "\x00",
    "\u200b",
    "a" * 120,
    "9:30",
    "e.g.",
    "…",
]


def byte_level(folder: Path) -> str:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(vocab_size=600, special_tokens=specials, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    tokenizer.enable_truncation(10)
    tokenizer.enable_padding(length=16)
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder)


def cased(folder: Path) -> str:
    (folder / "vocab.txt").write_text("\n".join(train_vocabulary(TEXTS, 700, lowercase=False)) + "\n")
    return str(folder / "vocab.txt")


@pytest.fixture(scope="module", params=["uncased", "cased", "byte-level"])
def word_pieces(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> WordPieces:
    folder = tmp_path_factory.mktemp(request.param)
    sources = {"uncased": lambda _: DEBUG_VOCAB, "cased": cased, "byte-level": byte_level}
    return WordPieces.load(sources[request.param](folder))


def random_sentences(count: int) -> list[str]:
    rng = random.Random(1)
    words = [word for text in TEXTS for word in text.split()]
    return [
        " ".join(rng.choices(words, k=rng.randint(1, 40)) + rng.choices(ODD[:2] + ODD[3:], k=2)) for _ in range(count)
    ]


def test_equals_transformers_on_words(word_pieces: WordPieces, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    word_pieces.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(str(tmp_path))
    sentences = random_sentences(300)
    records = word_pieces.encode_sentences(sentences)
    for index, sentence in enumerate(sentences):
        encoded = theirs(word_pieces.words(sentence), is_split_into_words=True)
        assert encoded["input_ids"][1:-1] == records.pieces.row(index).tolist()
        words = np.array(encoded.word_ids()[1:-1])
        starts = np.flatnonzero(np.append(-1, words[:-1]) != words)
        assert starts.tolist() == records.word_starts.row(index).tolist()
    for role in ("cls", "sep", "mask", "pad", "unk"):
        assert getattr(theirs, f"{role}_token_id") == getattr(word_pieces.special_ids, role)
    assert (theirs("a")["input_ids"][0], theirs("a")["input_ids"][-1]) == (theirs.cls_token_id, theirs.sep_token_id)
    assert len(theirs) == word_pieces.vocab_size


def test_word_starts_are_strictly_increasing_and_start_at_zero(word_pieces: WordPieces) -> None:
    records = word_pieces.encode_sentences([" ".join(ODD), "\x00 \u200b", "", " a \u00a0 b "])
    assert len(records) == 4
    for index in range(4):
        starts, pieces = records.word_starts.row(index), records.pieces.row(index)
        assert (np.diff(starts) > 0).all()
        assert (len(starts) == 0) == (len(pieces) == 0)
        assert len(starts) == 0 or (starts[0] == 0 and starts[-1] < len(pieces))
    assert len(records.word_starts.row(3)) == 2


def test_text_that_looks_special_is_text(word_pieces: WordPieces) -> None:
    text = " ".join(word_pieces.files.special_pieces.values()) + " x[SEP]y a<mask>b"
    pieces = set(word_pieces.encode_sentences([text]).pieces.values.tolist())
    ids = word_pieces.special_ids
    assert not pieces & {ids.cls, ids.sep, ids.mask, ids.pad}


def test_words_are_spacys(word_pieces: WordPieces) -> None:
    import spacy

    rules = spacy.blank("en").tokenizer
    for text in [*TEXTS[:100], "He can't, won't go to the U.S. (e.g. by 9:30pm); $5/kg."]:
        assert word_pieces.words(text) == [token.text for token in rules(text) if not token.is_space]


def test_what_was_seen_before_changes_nothing(word_pieces: WordPieces) -> None:
    fresh = WordPieces(word_pieces.files)
    one_by_one = [fresh.encode_sentences([text]) for text in reversed(TEXTS[:60])]
    together = WordPieces(word_pieces.files, max_known_chunks=10).encode_sentences(TEXTS[:60])
    for index in range(60):
        assert one_by_one[59 - index].pieces.values.tolist() == together.pieces.row(index).tolist()


def test_encode_words_keeps_one_row_per_word(word_pieces: WordPieces) -> None:
    rows = word_pieces.encode_words(["Ada", " ", "went"])
    assert len(rows) == 3
    assert rows.lengths[1] == 0 and rows.lengths[0] > 0


def test_byte_level_pieces_know_that_a_word_starts(tmp_path: Path) -> None:
    word_pieces = WordPieces.load(byte_level(tmp_path))
    first_pieces = word_pieces.encode_sentences(["Ada went home"]).pieces.values[:1].tolist()
    tokenizer = Tokenizer.from_str(word_pieces.files.tokenizer_json)
    assert tokenizer.id_to_token(first_pieces[0]).startswith("Ġ")


def test_case_is_decided_by_the_vocabulary_unless_given(tmp_path: Path) -> None:
    assert WordPieces.load(DEBUG_VOCAB).lowercase is True
    assert WordPieces.load(cased(tmp_path)).lowercase is False
    assert WordPieces.load(cased(tmp_path), lowercase=True).lowercase is True
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    assert WordPieces.load(str(tmp_path)).lowercase is True


def test_fingerprint_follows_what_decides_pieces(tmp_path: Path) -> None:
    ours, again = WordPieces.load(DEBUG_VOCAB), WordPieces.load(DEBUG_VOCAB)
    ours.save(tmp_path)
    assert ours.fingerprint == again.fingerprint == WordPieces.load(str(tmp_path)).fingerprint
    assert ours.fingerprint != WordPieces.load(DEBUG_VOCAB, lowercase=False).fingerprint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\n".join(piece for piece in SPECIAL_PIECES if piece != "[MASK]"), r"no mask piece \(looked for \[MASK\]"),
        ("\n".join([*SPECIAL_PIECES, "a", "a"]), "lists 1 piece twice"),
        (None, "no tokenizer there"),
    ],
)
def test_vocabularies_that_are_none_are_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "vocab.txt").write_text(content)
    with pytest.raises(UserError, match=message):
        WordPieces.load(str(tmp_path / "vocab.txt"))


def test_a_tokenizer_without_a_mask_is_refused(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "<pad>": 2, "<unk>": 3}, unk_token="<unk>"))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match="no mask piece"):
        WordPieces.load(str(tmp_path))
    with pytest.raises(UserError, match=r"no tokenizer\.json, no vocab\.txt"):
        WordPieces.load(str(tmp_path.parent))


def test_debug_vocabulary_cuts_enough_words() -> None:
    records = WordPieces.load("debug").encode_sentences(TEXTS)
    assert WordPieces.load("debug").fingerprint == WordPieces.load(DEBUG_VOCAB).fingerprint
    piece_counts = [
        np.diff(np.append(records.word_starts.row(i), len(records.pieces.row(i)))) for i in range(len(TEXTS))
    ]
    assert (np.concatenate(piece_counts) > 1).mean() > 0.10
    assert np.mean([(counts > 1).any() for counts in piece_counts]) > 0.30


def test_located_words_are_the_encoded_ones(word_pieces: WordPieces) -> None:
    sentences = ["", " \u3000 ", *random_sentences(100), "\x00 a\u200b\x00 (U.S.)  don't"]
    located, records = word_pieces.locate_words(sentences), word_pieces.encode_sentences(sentences)
    assert located.pieces.values.tolist() == records.pieces.values.tolist()
    assert located.word_offsets.tolist() == records.word_starts.offsets.tolist()
    assert located.pieces.lengths.min() > 0
    for index, sentence in enumerate(sentences):
        words = word_pieces.words(sentence)
        kept = [word for word, pieces in zip(words, word_pieces.encode_words(words).lengths, strict=True) if pieces]
        places = located.characters[located.word_offsets[index] : located.word_offsets[index + 1]].tolist()
        assert [sentence[start:end] for start, end in places] == kept
        assert places == sorted(places)


def test_runs_that_are_no_words_do_not_take_for_ever(word_pieces: WordPieces) -> None:
    """spaCy's rules take 15 seconds for 10,000 brackets, and a hundred times that for 100,000."""
    began = time.perf_counter()
    located = word_pieces.locate_words(["(" * 100_000, "x" * 100_000, "a " * 10])
    assert time.perf_counter() - began < 10
    assert np.diff(located.word_offsets).tolist() == [100_000, -(-100_000 // 256), 10]
    assert located.characters[:, 1].max() == 100_000
