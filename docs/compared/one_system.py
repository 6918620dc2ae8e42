"""One system of docs/compared.md, in a process of its own, with that system's own interpreter (see speed.py).

    python one_system.py build SYSTEM FOLDER        writes a model of the published size with random weights
    python one_system.py measure SYSTEM FOLDER      reads texts with it; speed.py tells it when to begin
    python one_system.py reach SYSTEM FOLDER        how far into a long text it finds anything; are offsets right?

What a model finds with random weights means nothing, but finding costs time. So each is set to find about as many
entities and relations in a sentence as the corpus has: by a threshold, or, in ours, by a bias.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Found = tuple[list[tuple[int, int, str]], int]
"""Entities of a text, each with its first character, one past its last, and itself; the number of relations."""
Find = Callable[[Sequence[str]], list[Found]]

ENTITY_TYPES = ("Person", "Place", "Organisation", "Work", "Year")
RELATION_TYPES = (
    "author of", "born in", "born in year", "capital of", "created in year", "founded by", "founded in year",
    "head office in", "lives in", "located in", "married to", "part of", "studied at", "works for",
)  # fmt: skip
ENTITIES, RELATIONS = 3.0, 1.35  # in a sentence of the corpus
VOCABULARY = {"ours": 28_996, "gliner": 128_000, "gliner2": 128_000, "relik": 128_000}
BERT = {
    "6x384": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536},
    "12x768": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}
DEBERTA = {
    "xsmall": {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536},
    "small": {"hidden_size": 768, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 3072},
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}
DEBERTA_V3 = {
    "model_type": "deberta-v2", "relative_attention": True, "position_buckets": 256, "max_relative_positions": -1,
    "norm_rel_ebd": "layer_norm", "share_att_key": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False,
    "max_position_embeddings": 512, "type_vocab_size": 0, "layer_norm_eps": 1e-7, "hidden_act": "gelu",
}  # fmt: skip


def main() -> None:
    """Build or measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("build", "measure", "reach"))
    parser.add_argument("system", choices=("ours", "gliner", "gliner2", "relik", "spacy"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--texts", type=Path, required=True, help="JSON list of texts")
    parser.add_argument("--size", default="")
    parser.add_argument("--form", default="fp32", help="fp32, bf16, int8, onnx")
    parser.add_argument("--relations", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--began", type=float, default=0.0)
    given = parser.parse_args()
    texts = json.loads(given.texts.read_text("utf-8"))
    if given.command == "build":
        BUILD[given.system](given, texts)
    elif given.command == "measure":
        measure(given, texts)
    else:
        reach(given, texts)


def measure(given: argparse.Namespace, texts: list[str]) -> None:
    """Print one line: a JSON object."""
    if given.system != "spacy":
        import torch

        torch.set_num_threads(given.threads)
    find = LOAD[given.system](given)
    find(texts[:1])
    first_answer = time.time() - given.began
    find(texts[:32])
    began = time.perf_counter()
    find(texts[32:64])
    rounds = max(1, round(given.seconds * 32 / (time.perf_counter() - began) / len(texts)))
    print("ready", flush=True)
    sys.stdin.readline()  # all processes begin together
    began, processor = time.perf_counter(), time.process_time()
    found = find(texts * rounds)
    seconds, processor = time.perf_counter() - began, time.process_time() - processor
    sentences = len(texts) * rounds
    print(
        json.dumps(
            {
                "sentences": sentences,
                "seconds": seconds,
                "processor_seconds": processor,
                "seconds_to_first_answer": first_answer,
                "mib_at_most": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "entities_per_sentence": per_text(found)[0],
                "relations_per_sentence": per_text(found)[1],
            }
        ),
        flush=True,
    )


def reach(given: argparse.Namespace, texts: list[str]) -> None:
    """Print where the last entity of a text of all sentences ends, with characters that UTF-16 counts otherwise."""
    text = "\N{GRINNING FACE} ".join(texts)
    ((entities, _),) = LOAD[given.system](given)([text])
    last = max((end for _, end, _ in entities), default=0)
    wrong = sum(text[start:end] != string for start, end, string in entities)
    words = len(text[:last].split())
    print(
        f"{len(text.split())} words; the last entity ends after {words}; {wrong} of {len(entities)} offsets are wrong"
    )


def per_text(found: Sequence[Found]) -> tuple[float, float]:
    """Mean numbers of entities and relations."""
    entities, relations = sum(len(one) for one, _ in found), sum(count for _, count in found)
    return entities / len(found), relations / len(found)


def knob_for(wanted: float, found: Callable[[float], float], high: float, step: float, least: float = 0.0) -> float:
    """Where `found`, which grows as its argument falls from `high`, is about `wanted`.

    It is looked for from above, in small steps: with everything found, some systems take all memory.
    """
    while found(high) >= wanted:
        high += 2 * step
    low = high
    while low - step > least and found(low) < wanted:
        low -= step
    for _ in range(4):
        step /= 2
        if found(low + step) >= wanted:
            low += step
    return low


def tokenizer(texts: Sequence[str], size: int) -> Any:
    """WordPiece, trained on the texts; unused pieces fill the vocabulary up to the published size."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    names = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.NFC(), pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=2_000, special_tokens=list(names), show_progress=False)
    made.train_from_iterator(texts, trainer)
    vocabulary = made.get_vocab()
    vocabulary |= {f"unused{number:06}": number for number in range(len(vocabulary), size)}
    made.model = models.WordPiece(vocabulary, unk_token="[UNK]")
    ends = [(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", ends)
    roles = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), names, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=512, **roles)


def report_size(model: Any, threshold: dict[str, float], folder: Path) -> None:
    """Keep what `measure` needs, and say how many parameters there are."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    (folder / "built.json").write_text(json.dumps(threshold | {"parameters": parameters}))
    print(json.dumps({"parameters": parameters}))


# Ours ---------------------------------------------------------------------------------------------------------------


def build_ours(given: argparse.Namespace, texts: list[str]) -> None:
    """What `spe finetune --config finetune_cpu` would train, untrained; its exports beside it."""
    import torch
    from transformers import BertConfig

    from data_shards.text.word_pieces import WordPieces
    from launcher.finetune import read_arguments
    from spe_dist.extraction.exports.export_extractor import Evidence, export_extractor
    from spe_dist.extraction.model.constraints import Constraints
    from spe_dist.extraction.model.encoded_sentences import Labels
    from spe_dist.extraction.predict.extractor import Extractor
    from spe_dist.extraction.predict.extractor_folder import STEM, ExtractorDescription
    from spe_dist.finetuning.model_folder import save_model
    from spe_dist.models.saved_encoder import new_sentence_encoder

    torch.manual_seed(0)
    tokenizer(texts, VOCABULARY["ours"]).save_pretrained(given.folder / "tokenizer")
    pieces = WordPieces.load(str(given.folder / "tokenizer"))
    architecture = read_arguments(["--config", "finetune_cpu"])[0].model.architecture
    constraints = Constraints(max_words=12, overlapping=False, triples=None)
    encoder = new_sentence_encoder(BertConfig(vocab_size=VOCABULARY["ours"], **BERT[given.size]))
    labels = Labels(ENTITY_TYPES, RELATION_TYPES)
    model = architecture.build(labels, constraints, encoder, dropout=0.0).eval()
    with torch.no_grad():
        model.detector.tags.weight.normal_(std=1.0)
        model.relations.scores.weight.normal_(std=1.0)
        model.types.bias[labels.no_entity] = -1e4
        some, extractor = texts[:16], Extractor(model, pieces)

        def entities(bias: float) -> float:
            model.detector.tags.bias[0] = bias  # of the tag O
            return sum(len(found.entities) for found in extractor(some)) / len(some)

        def relations(bias: float) -> float:
            model.relations.scores.bias[labels.no_relation] = bias
            return sum(len(found.relations) for found in extractor(some)) / len(some)

        entities(knob_for(ENTITIES, entities, 80.0, 8.0, least=-200.0))
        relations(knob_for(RELATIONS, relations, 80.0, 8.0, least=-200.0))
    description = ExtractorDescription(
        entity_types=ENTITY_TYPES,
        relation_types=RELATION_TYPES,
        architecture=architecture,
        constraints=constraints,
        language="en",
    )
    save_model(given.folder / "model", STEM, model.sentence_encoder, description, pieces, model.state_dict())
    for form in ("onnx", "int8"):
        export_extractor(given.folder / "model", given.folder / f"model-{form}", form, Evidence(texts))
    report_size(model, {}, given.folder)


def load_ours(given: argparse.Namespace) -> Find:
    """An extractor, in one of four forms."""
    from spe_dist import Extractor

    exported = given.form in ("onnx", "int8")
    folder = given.folder / (f"model-{given.form}" if exported else "model")
    extractor = Extractor.from_pretrained(folder, precision=None if exported else given.form)

    return lambda texts: [
        ([(entity.start, entity.end, entity.text) for entity in found.entities], len(found.relations))
        for found in extractor.stream(texts)
    ]


# GLiNER -------------------------------------------------------------------------------------------------------------


def build_gliner(given: argparse.Namespace, texts: list[str]) -> None:
    """Its architecture of spans, which finds entities alone."""
    import torch
    from gliner.model import UniEncoderSpanGLiNER

    torch.manual_seed(0)
    tokenizer(texts, VOCABULARY["gliner"]).save_pretrained(given.folder / "tokenizer")
    pieces = VOCABULARY["gliner"] + 3  # it adds three
    config: dict[str, Any] = {
        "model_name": str(given.folder / "tokenizer"), "max_width": 12, "max_len": 384, "hidden_size": 512,
        "vocab_size": pieces, "encoder_config": DEBERTA_V3 | DEBERTA[given.size] | {"vocab_size": pieces},
    }  # fmt: skip
    model = UniEncoderSpanGLiNER.load_from_config(config, backbone_from_pretrained=False)
    some = texts[:8]
    entity = knob_for(ENTITIES, lambda knob: per_text(_gliner(model, some, knob))[0], 0.625, 1 / 64)
    model.save_pretrained(given.folder / "model", safe_serialization=True)
    report_size(model, {"entity": entity}, given.folder)


def load_gliner(given: argparse.Namespace) -> Find:
    """In fp32, bf16, or with 8-bit integers as GLiNER makes them at loading (untrained for it)."""
    from gliner import GLiNER

    how = {"fp32": {}, "bf16": {"dtype": "bf16"}, "int8": {"quantize": "int8"}}[given.form]
    model = GLiNER.from_pretrained(str(given.folder / "model"), local_files_only=True, **how)
    at = json.loads((given.folder / "built.json").read_text())
    return lambda texts: _gliner(model, texts, at["entity"])


def _gliner(model: Any, texts: Sequence[str], threshold: float) -> list[Found]:
    found = model.inference(list(texts), list(ENTITY_TYPES), threshold=threshold)
    return [([(entity["start"], entity["end"], entity["text"]) for entity in one], 0) for one in found]


# GLiNER2 ------------------------------------------------------------------------------------------------------------


def build_gliner2(given: argparse.Namespace, texts: list[str]) -> None:
    """GLiNER2.5: its boundary architecture with the settings that are its defaults."""
    import torch
    from gliner2 import AutoExtractor
    from gliner2.configuration import ExtractorConfig
    from transformers import DebertaV2Config

    torch.manual_seed(0)
    made = tokenizer(texts, VOCABULARY["gliner2"])
    sizes = {name: value for name, value in (DEBERTA_V3 | DEBERTA[given.size]).items() if name != "model_type"}
    encoder = DebertaV2Config(vocab_size=VOCABULARY["gliner2"], **sizes)
    config = ExtractorConfig(model_name="deberta-v3", architecture="boundary")
    model = AutoExtractor.from_config(config, encoder_config=encoder, tokenizer=made).eval()
    some = texts[:8]
    entity = knob_for(ENTITIES, lambda knob: per_text(_gliner2(model, some, knob, relations=False))[0], 0.625, 1 / 64)
    model.save_pretrained(str(given.folder / "model"))
    report_size(model, {"entity": entity}, given.folder)


def load_gliner2(given: argparse.Namespace) -> Find:
    """With or without relations."""
    from gliner2 import AutoExtractor

    model = AutoExtractor.from_pretrained(str(given.folder / "model"))
    if given.form == "bf16":
        model = model.bfloat16()
    at = json.loads((given.folder / "built.json").read_text())
    return lambda texts: _gliner2(model, texts, at["entity"], relations=given.relations)


def _gliner2(model: Any, texts: Sequence[str], threshold: float, *, relations: bool) -> list[Found]:
    schema = model.create_schema().entities(list(ENTITY_TYPES))
    if relations:
        schema = schema.relations(list(RELATION_TYPES))
    found = model.batch_extract(list(texts), schema, threshold=threshold, include_spans=True, include_confidence=True)
    return [
        (
            [(span["start"], span["end"], span["text"]) for spans in one["entities"].values() for span in spans],
            sum(map(len, one.get("relation_extraction", {}).values())),
        )
        for one in found
    ]


# ReLiK --------------------------------------------------------------------------------------------------------------


def build_relik(given: argparse.Namespace, texts: list[str]) -> None:
    """The tokenizer alone: `load_relik` makes the encoders."""
    tokenizer(texts, VOCABULARY["relik"]).save_pretrained(given.folder / "tokenizer")
    (given.folder / "built.json").write_text("{}")


def load_relik(given: argparse.Namespace) -> Find:
    """Encoders alone, of the size of its small models: nothing is found, so this is the least that it can take.

    The retriever (E5-small's size) reads the text; the reader (DeBERTa-v3) reads it with the names of the relations.
    """
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel, DebertaV2Config, DebertaV2Model

    pieces = AutoTokenizer.from_pretrained(given.folder / "tokenizer")
    sizes = {name: value for name, value in (DEBERTA_V3 | DEBERTA[given.size]).items() if name != "model_type"}
    retriever = BertModel(BertConfig(vocab_size=len(pieces), **(BERT["6x384"] | {"num_hidden_layers": 12}))).eval()
    reader = DebertaV2Model(DebertaV2Config(vocab_size=len(pieces), **sizes)).eval()
    names = " [SEP] ".join(RELATION_TYPES)

    @torch.inference_mode()
    def find(texts: Sequence[str]) -> list[Found]:
        for first in range(0, len(texts), 8):
            some = list(texts[first : first + 8])
            retriever(**pieces(some, return_tensors="pt", padding=True, truncation=True))
            reader(**pieces(some, [names] * len(some), return_tensors="pt", padding=True, truncation=True))
        return [([], 0)] * len(texts)

    return find


# spaCy --------------------------------------------------------------------------------------------------------------


def load_spacy(given: argparse.Namespace) -> Find:
    """The real pipeline; only what entities need."""
    import spacy

    pipeline = spacy.load(given.size, exclude=["tagger", "parser", "attribute_ruler", "lemmatizer"])
    return lambda texts: [
        ([(entity.start_char, entity.end_char, entity.text) for entity in document.ents], 0)
        for document in pipeline.pipe(texts)
    ]


BUILD = {"ours": build_ours, "gliner": build_gliner, "gliner2": build_gliner2, "relik": build_relik}
LOAD = {"ours": load_ours, "gliner": load_gliner, "gliner2": load_gliner2, "relik": load_relik, "spacy": load_spacy}

if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
