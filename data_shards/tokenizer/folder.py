"""A folder of tokenizer files read as `AutoTokenizer` reads it: its class and settings decide, else it is refused.

`AutoTokenizer` (of transformers 5) takes tokenizer.json as it is for the general class only. For BERT's and RoBERTa's
classes it takes the vocabulary of whatever file is there and builds the rest from tokenizer_config.json; so does this.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE, Unigram

from data_shards.errors import UserError
from data_shards.tokenizer.wordpiece import (
    BERT_NAMES,
    BertSettings,
    has_upper_case,
    read_vocabulary,
    wordpiece_tokenizer,
)

TOKENIZER_JSON, SETTINGS, VOCAB_TXT, VOCAB_JSON, MERGES = (
    "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt",
)  # fmt: skip
_CONFIG, _SPECIAL_PIECES, _ADDED_TOKENS = "config.json", "special_tokens_map.json", "added_tokens.json"
FILES = (TOKENIZER_JSON, SETTINGS, VOCAB_TXT, VOCAB_JSON, MERGES, _CONFIG, _SPECIAL_PIECES, _ADDED_TOKENS)

_BERT, _ROBERTA, _UNIGRAM, _DEBERTA, _AS_IT_IS = "bert", "roberta", "unigram", "deberta", "tokenizer.json"
_CLASSES = {
    "BertTokenizer": _BERT, "ElectraTokenizer": _BERT, "DistilBertTokenizer": _BERT,
    "RobertaTokenizer": _ROBERTA,
    "XLMRobertaTokenizer": _UNIGRAM, "CamembertTokenizer": _UNIGRAM,
    "DebertaV2Tokenizer": _DEBERTA,
    "PreTrainedTokenizer": _AS_IT_IS, "TokenizersBackend": _AS_IT_IS,
}  # fmt: skip
_CLASS_OF_MODEL = {
    "bert": "BertTokenizer", "electra": "BertTokenizer", "distilbert": "BertTokenizer", "roberta": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer", "camembert": "CamembertTokenizer",
    "deberta-v2": "DebertaV2Tokenizer", "modernbert": "PreTrainedTokenizer",
}  # fmt: skip
_ROBERTA_NAMES = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
_USUAL_NAMES = {role: (BERT_NAMES[role], _ROBERTA_NAMES[role]) for role in BERT_NAMES}
_RESAVE = "name its tokenizer.json itself to take that as it is"


def read_folder(folder: Path, lowercase: bool | None, source: str) -> tuple[Tokenizer, dict[str, str]]:
    """The tokenizer of a folder, and its special pieces by role (pad, unk, cls, sep, mask).

    Args:
        folder: with some of `FILES`.
        lowercase: for a vocab.txt: in place of what the settings say.
        source: what messages call the folder.

    Raises:
        UserError: there is no tokenizer, or one that would not be read as `AutoTokenizer` reads it.
    """
    return _FolderReader(folder, lowercase, source).read()


def special_pieces(tokenizer: Tokenizer, given: Mapping[str, str], source: str) -> dict[str, str]:
    """The special pieces by role: those that are given, else those of the usual names."""
    found = {}
    for role, usual in _USUAL_NAMES.items():
        names = (given[role],) if role in given else usual
        piece = next((piece for piece in names if tokenizer.token_to_id(piece) is not None), None)
        if piece is None:
            raise UserError(
                f"{source}: the tokenizer has no {role} piece (looked for {', '.join(names)}): add it, or name another "
                "tokenizer"
            )
        found[role] = piece
    return found


def parse_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer.json."""
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises plain Exception
        raise UserError(
            f"{path}: not a tokenizer that this version of `tokenizers` reads ({error}): save the tokenizer again"
        ) from error


class _FolderReader:
    def __init__(self, folder: Path, lowercase: bool | None, source: str) -> None:
        self.folder, self.lowercase, self.source = folder, lowercase, source
        self.settings = self._json(SETTINGS)
        if "added_tokens_decoder" not in self.settings:
            self.settings |= self._json(_SPECIAL_PIECES)
        self.has_class = False  # whether the files say what class the tokenizer is of

    def read(self) -> tuple[Tokenizer, dict[str, str]]:
        if self.lowercase is not None and self._has(TOKENIZER_JSON):
            raise UserError(f"{self.source}: lowercase can be set for a vocabulary file; tokenizer.json decides it")
        kind = self._kind()
        given = {role: name for role in _USUAL_NAMES if (name := _content(self.settings.get(f"{role}_token")))}
        given = {_BERT: BERT_NAMES, _DEBERTA: BERT_NAMES, _AS_IT_IS: {}}.get(kind, _ROBERTA_NAMES) | given
        if kind == _BERT:
            tokenizer = self._bert(given["unk"], given.values())
        elif kind == _DEBERTA:
            tokenizer = self._deberta(given["unk"])
        else:
            tokenizer = self._roberta() if kind == _ROBERTA else self._as_it_is(unigram=kind == _UNIGRAM)
        self._add_listed_tokens(tokenizer, given.values())
        roles = special_pieces(tokenizer, given, self.source)
        self._add_special_tokens(tokenizer, given.values())
        return tokenizer, roles

    def _has(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def _json(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        if not path.is_file():
            return {}
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: not valid JSON ({error}): save the tokenizer again") from error
        if not isinstance(value, dict):
            raise UserError(f"{path}: not a JSON object: save the tokenizer again")
        return value

    def _kind(self) -> str:
        """What the class makes of the files; without a class, what the model's type and the files say."""
        for key in ("auto_map", "fast_tokenizer_files"):
            if key in self.settings:
                raise self._refused(f"its {SETTINGS} has {key!r}: a tokenizer with code or files of its own")
        config = self._json(_CONFIG)
        model = config.get("model_type")
        given = self.settings.get("tokenizer_class") or config.get("tokenizer_class") or _CLASS_OF_MODEL.get(str(model))
        self.has_class = given is not None
        if given is None and model is not None:
            raise self._refused(f"it is of a model of type {model!r}")
        if given is None:  # AutoTokenizer reads no vocabulary file here
            return _AS_IT_IS if self._has(TOKENIZER_JSON) or not self._has(VOCAB_TXT) else _BERT
        kind = _CLASSES.get(str(given).removesuffix("Fast"))
        if kind is None:
            raise self._refused(f"its class is {given}")
        return kind

    def _refused(self, reason: str) -> UserError:
        advice = f"; {_RESAVE}" if self._has(TOKENIZER_JSON) else ""
        return UserError(
            f"{self.source}: this tokenizer is not supported ({reason}); those of BERT, ELECTRA, DistilBERT, RoBERTa, "
            f"XLM-R, DeBERTa-v2 and -v3 are, and any PreTrainedTokenizerFast with a {TOKENIZER_JSON}{advice}"
        )

    def _missing(self, *names: str) -> UserError:
        return UserError(
            f"{self.source} holds no tokenizer that can be read: no {', no '.join(names)}; other files, such as a "
            f"sentencepiece model, are not read: save the tokenizer with a {TOKENIZER_JSON} "
            "(AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER) of transformers 5 makes one)"
        )

    def _as_it_is(self, *, unigram: bool) -> Tokenizer:
        if self._has(TOKENIZER_JSON):
            return Tokenizer.from_str(json.dumps(self._document("Unigram" if unigram else None)))
        names = (TOKENIZER_JSON,) if self.has_class else (TOKENIZER_JSON, VOCAB_TXT)
        raise self._missing(*names)

    def _deberta(self, unk: str) -> Tokenizer:
        """tokenizer.json, if the class of transformers 5 makes the same of its pieces (that of 4 normalizes more)."""
        if not self._has(TOKENIZER_JSON):
            raise self._missing(TOKENIZER_JSON)
        document = self._document("Unigram")
        steps: list[Any] = [normalizers.Lowercase()] if self.settings.get("do_lower_case") else []
        steps += [normalizers.Replace(Regex(r"\s{2,}|[\n\r\t]"), " "), normalizers.NFC()]
        splits = [pre_tokenizers.Punctuation(behavior="isolated")] if self.settings.get("split_by_punct") else []
        spaces = "always" if self.settings.get("add_prefix_space", True) else "first"
        model = document["model"]
        pieces = [piece for piece, score in model["vocab"]]
        unk_id = pieces.index(unk) if unk in pieces else 1
        built = Tokenizer(Unigram([("a", 0.0)], 0, byte_fallback=False))
        built.normalizer = normalizers.Sequence([*steps, normalizers.Strip(left=False, right=True)])
        built.pre_tokenizer = pre_tokenizers.Sequence([*splits, pre_tokenizers.Metaspace("▁", prepend_scheme=spaces)])
        expected = json.loads(built.to_str())
        for part in ("normalizer", "pre_tokenizer"):
            if document[part] != expected[part]:
                raise self._contradiction(part)
        if (model["unk_id"], model.get("byte_fallback", False)) != (unk_id, False):
            raise self._contradiction("model")
        return Tokenizer.from_str(json.dumps(document))

    def _bert(self, unk: str, specials: Collection[str]) -> Tokenizer:
        if self._has(TOKENIZER_JSON):
            document = self._document("WordPiece")
            vocabulary = document["model"]["vocab"]
            settings = self._bert_settings(_normalizer_settings(document, self._contradiction))
        elif self._has(VOCAB_TXT):
            vocabulary, document = read_vocabulary(self.folder / VOCAB_TXT), None
            settings = self._bert_settings({"do_lower_case": not has_upper_case(vocabulary, specials)})
        else:
            raise self._missing(TOKENIZER_JSON, VOCAB_TXT)
        if unk not in vocabulary:
            raise UserError(f"{self.source}: the tokenizer has no unk piece (looked for {unk})")
        tokenizer = wordpiece_tokenizer(vocabulary, settings, unk=unk)
        if document is not None:
            self._require_same_parts(document, tokenizer)
        return tokenizer

    def _bert_settings(self, of_files: Mapping[str, bool]) -> BertSettings:
        """The settings by name; where one is left to its default, the files must not say otherwise."""
        named = {name: self.settings[name] for name in BertSettings.defaults() if name in self.settings}
        if self.lowercase is not None:
            named["do_lower_case"] = self.lowercase
        elif not self.has_class and "do_lower_case" in of_files:
            named.setdefault("do_lower_case", of_files["do_lower_case"])
        for name, value in named.items():
            if not isinstance(value, bool) and not (value is None and name == "strip_accents"):
                raise UserError(f"{self.source}: {name} in {SETTINGS} is {value!r}: it must be true or false")
        settings = BertSettings(**named)
        for name, value in of_files.items():
            if name not in named and value != settings.effective(name):
                default = _word(settings.effective(name))
                raise UserError(
                    f"{self.source}: {SETTINGS} does not set {name}, so it is {default}, but the vocabulary looks "
                    f"made for {_word(value)}: write {name} into {SETTINGS}, or name the vocabulary file itself"
                )
        return settings

    def _roberta(self) -> Tokenizer:
        document = None
        try:
            if self._has(TOKENIZER_JSON):
                document = self._document("BPE")
                if document["normalizer"] is not None:
                    raise self._contradiction("normalizer")
                merges = [tuple(merge) for merge in document["model"]["merges"]]
                model = BPE(document["model"]["vocab"], merges, continuing_subword_prefix="", end_of_word_suffix="")
            elif self._has(VOCAB_JSON) and self._has(MERGES):
                vocabulary, merges = BPE.read_file(str(self.folder / VOCAB_JSON), str(self.folder / MERGES))
                model = BPE(vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix="")
            else:
                raise self._missing(TOKENIZER_JSON, f"{VOCAB_JSON} with {MERGES}")
        except UserError:
            raise
        except Exception as error:  # tokenizers raises plain Exception
            raise UserError(
                f"{self.source}: not a vocabulary of pieces and merges ({error}): save the tokenizer again"
            ) from error
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = ByteLevelDecoder()
        if document is not None:
            self._require_same_parts(document, tokenizer)
        return tokenizer

    def _document(self, model: str | None) -> dict[str, Any]:
        """tokenizer.json, which must be of this model, with all defaults written out."""
        document: dict[str, Any] = json.loads(parse_tokenizer(self.folder / TOKENIZER_JSON).to_str())
        if model not in (None, document["model"]["type"]):
            raise self._contradiction(f"model ({document['model']['type']})")
        return document

    def _require_same_parts(self, document: Mapping[str, Any], built: Tokenizer) -> None:
        """What the class builds must be what tokenizer.json says, but for what the settings decide."""
        expected = json.loads(built.to_str())
        for part in ("pre_tokenizer", "model"):
            theirs, ours = (_comparable(source[part] or {}) for source in (document, expected))
            if theirs != ours:
                raise self._contradiction(part)

    def _contradiction(self, part: str) -> UserError:
        return UserError(
            f"{self.source}: the {part} in its {TOKENIZER_JSON} is not that of the tokenizer's class, which other "
            f"programs would use: set tokenizer_class in {SETTINGS} to PreTrainedTokenizerFast, or {_RESAVE}"
        )

    def _add_listed_tokens(self, tokenizer: Tokenizer, specials: Collection[str]) -> None:
        listed = self._listed_tokens()
        names = {*specials, *map(_content, _named(self.settings))}
        for token in listed.values():
            token.special = token.special or token.content in names
        tokenizer.add_tokens([listed[index] for index in sorted(listed)])
        for index, token in listed.items():
            if tokenizer.token_to_id(token.content) != index:
                raise UserError(
                    f"{self.source}: the added piece {token.content!r} has id {index} in the files, but the vocabulary "
                    f"gives it {tokenizer.token_to_id(token.content)}: save the tokenizer again"
                )

    def _listed_tokens(self) -> dict[int, AddedToken]:
        """Added pieces by id, from the first of the places where they may be."""
        try:
            if "added_tokens_decoder" in self.settings:
                return {int(index): _token(one) for index, one in self.settings["added_tokens_decoder"].items()}
            legacy = {index: AddedToken(name, normalized=True) for name, index in self._json(_ADDED_TOKENS).items()}
            of_file = self._json(TOKENIZER_JSON).get("added_tokens") or []
            return legacy | {int(one["id"]): _token(one) for one in of_file}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.source}: its list of added pieces is malformed ({error}): save the tokenizer again"
            ) from error

    def _add_special_tokens(self, tokenizer: Tokenizer, specials: Collection[str]) -> None:
        known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
        extra = self.settings.get("extra_special_tokens") or self.settings.get("additional_special_tokens") or []
        extra = list(extra.values()) if isinstance(extra, dict) else extra
        names = [*specials, *map(_content, [*_named(self.settings), *extra])]
        tokenizer.add_special_tokens([name for name in dict.fromkeys(names) if name and name not in known])


def _named(settings: Mapping[str, Any]) -> list[Any]:
    """What settings such as mask_token hold."""
    return [value for name, value in settings.items() if name.endswith("_token")]


def _content(piece: object) -> str | None:
    """The text of a piece, which settings give as such or with its flags."""
    piece = piece.get("content") if isinstance(piece, dict) else piece
    return piece if isinstance(piece, str) else None


def _token(fields: Mapping[str, Any]) -> AddedToken:
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return AddedToken(fields["content"], **{name: fields[name] for name in flags if name in fields})


def _word(value: bool) -> str:
    return "true" if value else "false"


def _normalizer_settings(document: Mapping[str, Any], contradiction: Callable[[str], UserError]) -> dict[str, bool]:
    """BERT's settings as tokenizer.json has them."""
    normalizer = document["normalizer"] or {}
    if normalizer.get("type") != "BertNormalizer" or not normalizer["clean_text"]:
        raise contradiction("normalizer")
    settings = {"do_lower_case": normalizer["lowercase"], "tokenize_chinese_chars": normalizer["handle_chinese_chars"]}
    strip = normalizer["strip_accents"]
    return settings if strip is None else settings | {"strip_accents": strip}


def _comparable(part: Mapping[str, Any]) -> dict[str, Any]:
    """Without what settings or vocabularies decide, and what no byte-level piece depends on."""
    decided = {"vocab", "merges", "unk_token", "fuse_unk", "add_prefix_space", "trim_offsets"}
    return {name: value or None for name, value in part.items() if name not in decided}
