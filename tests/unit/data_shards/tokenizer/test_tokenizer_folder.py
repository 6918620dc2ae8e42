"""Tokenizer folders: our ids are those of `AutoTokenizer`, or the folder is refused in one line.

Equal means, for any word that is not white space:
- The ids of a word are those that AutoTokenizer gives it when the words of a text are given one by one
  (`is_split_into_words`). Words in which text looks like a special piece ("[MASK]") stay text: `split_special_tokens`.
  A byte-level word begins with a space, as every word of RoBERTa's corpus did but the first: `add_prefix_space`.
- For whole texts whose words stand between single spaces and hold no white space of any kind, the ids of the text are
  those of its words, one after another. Not for DeBERTa where a word has ▁, which its pieces have for a space.
"""

import json
import random
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer

from data_shards.errors import UserError
from data_shards.text.word_pieces import WordPieces
from data_shards.tokenizer.wordpiece import SPECIAL_PIECES

SEEDS = [
    "Möchte", "mo\u0308chte", "ÅNGSTRÖM", "a\u030angstro\u0308m", "naïve", "ﬁn", "Straße", "İstanbul", "\u017f",
    "\u212a", "Ⅷ", "㎏",
    "東京都", "北京大学", "住む", "きょう", "カ\u3099", "한국어", "각", "\U00020000\U0002a6d6", "豈",
    "שלום", "مرحبا\u064b", "\u202eabc\u202c", "हिन्दी", "ไทย", "ქართული", "Ω≈ç√", "x²", "½", "—", "…", "«q»",
    "'s", "don't",
    "👩\u200d👩\u200d👧\u200d👦", "🏳\ufe0f\u200d🌈", "🇩🇪", "👍🏽", "\U0001d518\U0001d52b",
    "\U0010ffff", "\ue000", "\ufdd0", "\ufffd",
    "a\u200bb", "a\u200cb", "\u200d", "\ufeffx", "co\u00adop", "a\u2060b", "a\u034fb", "\u0301", "e\u0301\u0323\u0327",
    "a\x00b", "\x07", "a\x1bb", "\x7f", "\x85", "a\u0080b", "\u2066x\u2069", "\x1c", "a\x1fb",
    "[MASK]", "x[SEP]y", "[CLS]", "[UNK]", "[PAD]", "<mask>", "<s>", "a</s>b", "<unk>", "<pad>", "[mask]", "[ENT]",
    "new-york", "NEW-YORK", "##a", "Ġa", "▁a", "\\n", "a_b", "$3.50", "#tag", "@me", "e.g.", "C++", "x" * 99, "y" * 101,
    "é" * 120, "z" * 3000, "!" * 50, "ab" * 60 + "中",
]  # fmt: skip
SPACES = [" ", "\t", "\n", "\r", "\x0b", "\x0c", "\u00a0", "\u2003", "\u2028", "\u2029", "\u3000", "\u1680", "  "]
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHäöüßÉé中京北東国日0123456789.,!?-'#[]<>/"


def hostile_texts(count: int, *, seed: int = 17, spaces: list[str] = SPACES) -> list[str]:
    rng = random.Random(seed)

    def word() -> str:
        kind = rng.randrange(4)
        if kind == 0:
            return "".join(rng.choices(ALPHABET, k=rng.randint(1, 12)))
        if kind == 1:  # anything in Unicode but halves of a character
            codes = (rng.choice((rng.randrange(0x250), rng.randrange(0xD800), rng.randrange(0xE000, 0x110000)))
                     for _ in range(rng.randint(1, 6)))  # fmt: skip
            return "".join(map(chr, codes))
        chosen = "".join(rng.choices(SEEDS, k=1 if kind == 2 else 2))
        return unicodedata.normalize(rng.choice(("NFC", "NFD")), chosen)

    return ["".join(word() + rng.choice(spaces) for _ in range(rng.randint(1, 9))) for _ in range(count)]


WORDS = sorted({word for text in hostile_texts(1000) for word in text.split()})
PLAIN = [" ".join(text.split()) for text in hostile_texts(300, seed=3, spaces=[" "])]


def train(tokenizer: Tokenizer, trainer: Any) -> Tokenizer:
    rng = random.Random(5)
    letters = (" ".join("".join(rng.choices(ALPHABET, k=rng.randint(1, 6))) for _ in range(2000)),)
    tokenizer.train_from_iterator([*letters, *(" ".join(rng.choices(SEEDS[:40], k=20)) for _ in range(40))], trainer)
    return tokenizer


def word_piece(*, lowercase: bool, strip_accents: bool | None = None, chinese: bool = True) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(
        lowercase=lowercase, strip_accents=strip_accents, handle_chinese_chars=chinese
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return train(tokenizer, trainers.WordPieceTrainer(
        vocab_size=900, special_tokens=list(SPECIAL_PIECES), show_progress=False, limit_alphabet=300))  # fmt: skip


def byte_level(*, prefix_space: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    specials = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    train(tokenizer, trainers.BpeTrainer(
        vocab_size=900, special_tokens=specials, initial_alphabet=alphabet, show_progress=False))  # fmt: skip
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=prefix_space)
    return tokenizer


def modern_bytes() -> Tokenizer:
    """As ModernBERT's: bytes under BERT's names, behind them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    train(tokenizer, trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))  # fmt: skip
    tokenizer.add_tokens([AddedToken(" " * spaces, normalized=True) for spaces in (2, 3)])
    tokenizer.add_special_tokens([AddedToken(name, lstrip=name == "[MASK]") for name in SPECIAL_PIECES])
    ids = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=ids
    )
    return tokenizer


def unigram(*, deberta: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    specials, unk = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], "<unk>"
    if deberta:
        specials, unk = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"], "[UNK]"
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " "), normalizers.NFC(), normalizers.Strip(left=False)]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace()])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
        )
    train(tokenizer, trainers.UnigramTrainer(
        vocab_size=900, special_tokens=specials, unk_token=unk, show_progress=False))  # fmt: skip
    if deberta:
        tokenizer.add_special_tokens(["[MASK]"])
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    else:
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    # Scores that JSON holds exactly: of two equally likely cuts of "yyy", the last bit of a score decides.
    document = json.loads(tokenizer.to_str())
    document["model"]["vocab"] = [(piece, round(score * 8) / 8) for piece, score in document["model"]["vocab"]]
    return Tokenizer.from_str(json.dumps(document))


def unigram_of_transformers_4() -> Tokenizer:
    tokenizer = unigram(deberta=True)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.NFKC()])
    return tokenizer


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "uncased": lambda: word_piece(lowercase=True),
    "cased": lambda: word_piece(lowercase=False),
    "accents": lambda: word_piece(lowercase=True, strip_accents=False),
    "japanese": lambda: word_piece(lowercase=False, chinese=False),
    "bytes": byte_level,
    "spaced bytes": lambda: byte_level(prefix_space=True),
    "unigram": unigram,
    "modern bytes": modern_bytes,
    "unigram of deberta": lambda: unigram(deberta=True),
    "unigram of transformers 4": unigram_of_transformers_4,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    for name, make in TOKENIZERS.items():
        tokenizer = make()
        (folder / name).mkdir()
        tokenizer.save(str(folder / name / "tokenizer.json"))
        vocabulary = tokenizer.get_vocab()
        pieces = sorted(vocabulary, key=vocabulary.__getitem__)
        (folder / name / "vocab.txt").write_text("\n".join(pieces) + "\n")
        if name in ("bytes", "spaced bytes"):
            tokenizer.model.save(str(folder / name))
    return folder


JSON, TXT, MERGES = ("tokenizer.json",), ("vocab.txt",), ("vocab.json", "merges.txt")
BERT, ROBERTA, ELECTRA = ({"model_type": model} for model in ("bert", "roberta", "electra"))
FAST = {"tokenizer_class": "PreTrainedTokenizerFast"}
NAMES = {f"{role}_token": f"<{role}>" for role in ("unk", "pad", "mask")} | {"cls_token": "<s>", "sep_token": "</s>"}
SPACES_ARE_MARKED = ("unigram of deberta", "unigram of transformers 4")
BERTS_NAMES = {f"{name[1:-1].lower()}_token": name for name in SPECIAL_PIECES}
DEBERTA = {"model_type": "deberta-v2"}
ENTITY = {"content": "New-York", "normalized": True, "special": False}
# (which tokenizer, files that are copied, config.json, tokenizer_config.json)
READ: dict[str, tuple[str, tuple[str, ...], dict[str, Any] | None, dict[str, Any] | None]] = {
    "bert": ("uncased", TXT, BERT, None),
    "class alone": ("uncased", TXT, None, {"tokenizer_class": "BertTokenizer"}),
    "fast class": ("uncased", TXT, None, {"tokenizer_class": "BertTokenizerFast", "do_lower_case": True}),
    "electra": ("uncased", TXT, ELECTRA, {"do_lower_case": True, "tokenizer_class": "ElectraTokenizer"}),
    "distilbert": ("uncased", JSON, {"model_type": "distilbert"}, {"tokenizer_class": "DistilBertTokenizer"}),
    "cased": ("cased", TXT, BERT, {"do_lower_case": False}),
    "cased, said to lower-case": ("cased", TXT, BERT, {"do_lower_case": True}),
    "accents kept": ("accents", TXT, BERT, {"do_lower_case": True, "strip_accents": False}),
    "accents stripped, cased": ("cased", TXT, BERT, {"do_lower_case": False, "strip_accents": True}),
    "accents null": ("uncased", TXT, BERT, {"strip_accents": None}),
    "chinese whole": ("japanese", TXT, BERT, {"do_lower_case": False, "tokenize_chinese_chars": False}),
    "json": ("uncased", JSON, BERT, None),
    "json, cased": ("cased", JSON, BERT, {"do_lower_case": False, "tokenizer_class": "BertTokenizer"}),
    "json of another case": ("cased", JSON, BERT, {"do_lower_case": True}),
    "json, accents kept": ("accents", JSON, ELECTRA, {"strip_accents": False}),
    "json as it is": ("accents", JSON, BERT, FAST),
    "json and vocab.txt": ("uncased", (*JSON, *TXT), BERT, {"do_lower_case": True}),
    "json alone": ("cased", JSON, None, {}),
    "own names": ("named", TXT, BERT, {"do_lower_case": True, **NAMES}),
    "own names with flags": ("named", TXT, BERT, {
        "do_lower_case": True, **NAMES, "mask_token": {"__type": "AddedToken", "content": "<mask>", "lstrip": True}}),
    "added word": ("uncased", TXT, BERT, {"do_lower_case": True, "added_tokens_decoder": {"900": ENTITY}}),
    "added to json": ("uncased", JSON, BERT, {**FAST, "added_tokens_decoder": {"900": ENTITY}}),
    "added special piece": ("uncased", TXT, BERT, {"additional_special_tokens": ["[ENT]"]}),
    "roberta": ("bytes", MERGES, ROBERTA, None),
    "roberta, spaced": ("bytes", MERGES, ROBERTA, {"add_prefix_space": True, "tokenizer_class": "RobertaTokenizer"}),
    "roberta, fast class": ("bytes", MERGES, None, {"tokenizer_class": "RobertaTokenizerFast"}),
    "roberta, json": ("bytes", JSON, ROBERTA, None),
    "roberta, json with spaces": ("spaced bytes", JSON, ROBERTA, {"tokenizer_class": "RobertaTokenizer"}),
    "roberta as it is": ("spaced bytes", JSON, ROBERTA, FAST),
    "bytes as they are": ("bytes", JSON, ROBERTA, FAST),
    "xlm-roberta": ("unigram", JSON, {"model_type": "xlm-roberta"}, {"tokenizer_class": "XLMRobertaTokenizer"}),
    "modernbert": ("modern bytes", JSON, {"model_type": "modernbert"}, {**FAST, **BERTS_NAMES}),
    "modernbert without class": ("modern bytes", JSON, {"model_type": "modernbert"}, BERTS_NAMES),
    "deberta": ("unigram of deberta", JSON, DEBERTA, None),
    "deberta, class": ("unigram of deberta", JSON, DEBERTA, {"tokenizer_class": "DebertaV2Tokenizer"}),
    "deberta as it is": ("unigram of transformers 4", JSON, DEBERTA, {**FAST, **BERTS_NAMES}),
}  # fmt: skip


def make_folder(trained: Path, out: Path, case: tuple[str, tuple[str, ...], Any, Any]) -> Path:
    name, files, config, settings = case
    out.mkdir()
    source = trained / ("uncased" if name == "named" else name)
    for file in files:
        shutil.copy(source / file, out / file)
    if name == "named":
        text = (out / "vocab.txt").read_text()
        for role, piece in zip(("pad", "unk", "cls", "sep", "mask"), SPECIAL_PIECES, strict=True):
            text = text.replace(f"{piece}\n", f"{NAMES[f'{role}_token']}\n", 1)
        (out / "vocab.txt").write_text(text)
    for file, content in (("config.json", config), ("tokenizer_config.json", settings)):
        if content is not None:
            (out / file).write_text(json.dumps(content))
    return out


def ids_of_words(tokenizer: Any, words: list[str]) -> list[list[int]]:
    encoded = tokenizer(words, is_split_into_words=True, add_special_tokens=False)
    ids: list[list[int]] = [[] for _ in words]
    for word, piece in zip(encoded.word_ids(), encoded["input_ids"], strict=True):
        ids[word].append(piece)
    return ids


def plain_ids(tokenizer: Any) -> list[list[int]]:
    return tokenizer(PLAIN, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("case", READ)
def test_ids_are_those_of_autotokenizer(trained: Path, tmp_path: Path, case: str) -> None:
    folder = make_folder(trained, tmp_path / "folder", READ[case])
    theirs = AutoTokenizer.from_pretrained(folder, split_special_tokens=True)
    if "bytes" in READ[case][0]:
        theirs.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    ours = WordPieces.load(str(folder))
    assert theirs.get_vocab() == ours._tokenizer.get_vocab(with_added_tokens=True)
    rows = ours.encode_words(WORDS)
    for index, (word, ids) in enumerate(zip(WORDS, ids_of_words(theirs, WORDS), strict=True)):
        assert rows.row(index).tolist() == ids, word
    for role in ("cls", "sep", "mask", "pad", "unk"):
        assert getattr(theirs, f"{role}_token_id") in (getattr(ours.special_ids, role), None)
    saved = tmp_path / "saved"
    ours.save(saved)
    again = AutoTokenizer.from_pretrained(saved, split_special_tokens=True)
    assert plain_ids(again) == plain_ids(theirs)
    for text, ids in zip(PLAIN, plain_ids(theirs), strict=True):
        if "▁" not in text or READ[case][0] not in SPACES_ARE_MARKED:
            assert ids == [i for row in ids_of_words(theirs, text.split()) for i in row], text
    places = again("Ab cd", add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    # But of Unigram, whose ▁ is a piece of its own over the letter behind it, and where as for ModernBERT nothing says
    # that the space before a word is not of the word.
    if not {"unigram", "modern"} & set(READ[case][0].split()):
        assert "".join("Ab cd"[start:end] for start, end in places) == "Abcd"
    if theirs.num_special_tokens_to_add():
        assert again("a")["input_ids"] == theirs("a")["input_ids"]


REFUSED: dict[str, tuple[str, tuple[str, ...], Any, Any, str]] = {
    "cased, left to the default": ("cased", TXT, BERT, None, "does not set do_lower_case, so it is true, but"),
    "json, left to the default": ("cased", JSON, BERT, {}, "does not set do_lower_case, so it is true, but"),
    "chinese, left to the default": (
        "japanese", JSON, BERT, {"do_lower_case": False}, "does not set tokenize_chinese_chars"),
    "no bool": ("cased", TXT, BERT, {"do_lower_case": "no"}, "do_lower_case .* is 'no': it must be true or false"),
    "no class": ("uncased", TXT, BERT, {"tokenizer_class": "BertJapaneseTokenizer"}, "its class is BertJapanese"),
    "code of its own": ("uncased", JSON, BERT, {"auto_map": {"AutoTokenizer": ["a.B", None]}}, "'auto_map'"),
    "t5": ("unigram", JSON, {"model_type": "t5"}, {}, "it is of a model of type 't5'"),
    "gpt": ("bytes", MERGES, {"model_type": "gpt2"}, {"tokenizer_class": "GPT2Tokenizer"}, "its class is GPT2"),
    "sentencepiece": ("unigram", (), {"model_type": "xlm-roberta"}, None, r"no tokenizer\.json; .* sentencepiece"),
    "sentencepiece of deberta": ("unigram", (), DEBERTA, None, r"no tokenizer\.json; .* of transformers 5 makes one"),
    "deberta of transformers 4": ("unigram of transformers 4", JSON, DEBERTA, None, r"the normalizer in its .* is not"),
    "deberta, lower case": (
        "unigram of deberta", JSON, DEBERTA, {"do_lower_case": True}, r"the normalizer in its tokenizer\.json is not"),
    "class needs another file": ("uncased", TXT, BERT, FAST, r"holds no tokenizer .*: no tokenizer\.json;"),
    "merges alone": ("bytes", MERGES[1:], ROBERTA, None, r"no tokenizer\.json, no vocab\.json with merges\.txt"),
    "bytes of a bert": ("bytes", JSON, BERT, {}, r"the model \(BPE\) in its tokenizer\.json is not that of .* class"),
    "no unk": ("uncased", TXT, BERT, {"unk_token": "<unk>"}, "no unk piece"),
    "no mask": ("uncased", TXT, BERT, {"mask_token": "<mask>"}, "no mask piece"),
    "id of an added piece": (
        "uncased", TXT, BERT, {"added_tokens_decoder": {"7": ENTITY}}, "'New-York' has id 7 in the files, but"),
    "added pieces": ("uncased", TXT, BERT, {"added_tokens_decoder": ["a"]}, "list of added pieces is malformed"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_read_otherwise_is_refused_in_one_line(trained: Path, tmp_path: Path, case: str) -> None:
    *files, message = REFUSED[case]
    folder = make_folder(trained, tmp_path / "folder", (*files,))
    with pytest.raises(UserError, match=message) as error:
        WordPieces.load(str(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["{", "[]", "\xff"])
def test_settings_that_are_none_are_refused(trained: Path, tmp_path: Path, content: str) -> None:
    folder = make_folder(trained, tmp_path / "folder", READ["bert"])
    (folder / "tokenizer_config.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"tokenizer_config\.json: not (valid JSON|a JSON object)"):
        WordPieces.load(str(folder))


def test_legacy_files_of_special_and_added_pieces(trained: Path, tmp_path: Path) -> None:
    folder = make_folder(trained, tmp_path / "folder", ("named", TXT, BERT, {"do_lower_case": True}))
    (folder / "special_tokens_map.json").write_text(json.dumps(NAMES))
    (folder / "added_tokens.json").write_text('{"new york": 900}')
    theirs, ours = AutoTokenizer.from_pretrained(folder, split_special_tokens=True), WordPieces.load(str(folder))
    assert theirs.get_vocab() == ours._tokenizer.get_vocab(with_added_tokens=True)
    assert ours.files.special_pieces["mask"] == "<mask>"
    assert ours.encode_words(["a new york"]).values.tolist() == ids_of_words(theirs, ["a new york"])[0]


def test_a_vocabulary_without_class_goes_by_its_letters(trained: Path, tmp_path: Path) -> None:
    """AutoTokenizer reads no such folder."""
    for name in ("cased", "uncased"):
        folder = make_folder(trained, tmp_path / name, (name, TXT, None, {"strip_accents": False}))
        assert WordPieces.load(str(folder)).lowercase is (name == "uncased")
        normalizer = json.loads(WordPieces.load(str(folder)).files.tokenizer_json)["normalizer"]
        assert normalizer["strip_accents"] is False


@pytest.mark.parametrize("case", ["accents kept", "roberta", "json, cased"])
def test_a_hub_model_is_read_as_a_folder_is(
    trained: Path, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    cached = tmp_path / "hub" / "models--lab--model"
    (cached / "snapshots").mkdir(parents=True)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc123")
    folder = make_folder(trained, cached / "snapshots" / "abc123", READ[case])
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert WordPieces.load("lab/model").files == WordPieces.load(str(folder)).files
    for file in folder.glob("*o*.*"):
        file.unlink()
    with pytest.raises(UserError, match=r"lab/model holds no tokenizer that can be read: no tokenizer\.json"):
        WordPieces.load("lab/model")
    with pytest.raises(UserError, match="lab/other' is no local file or folder and could not be downloaded"):
        WordPieces.load("lab/other")
