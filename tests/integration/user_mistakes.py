"""Mistakes that people make, and parts of the line that they are told."""

import gzip
import io
import json
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq


@dataclass(frozen=True)
class Mistake:
    """A command, split at blanks, and files that lie where it is typed.

    Args:
        command: without `spe`; `{world}` holds shards, run, new_run (without checkpoints), model, TASK/model of
            document relations and tasks with items, and damaged_shards, damaged_run, damaged_model.
        told: parts of the one line.
        files: name to content.
    """

    command: str
    told: tuple[str, ...]
    files: dict[str, str | bytes] = field(default_factory=dict)


def _mistake(command: str, *told: str, **files: str | bytes) -> Mistake:
    """In names of files, `__` is a dot."""
    return Mistake(command, told, {name.replace("__", "."): content for name, content in files.items()})


def _parquet(**columns: list) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


_SENTENCE = {
    "tokens": ["Ann", "works", "for", "Acme"],
    "entities": [{"type": "PER", "start": 0, "end": 1}, {"type": "ORG", "start": 3, "end": 4}],
    "relations": [{"type": "works", "head": 0, "tail": 1}],
}
_DATA = json.dumps(_SENTENCE) + "\n"
_LINES = "Ann works for Acme .\n"
_DRY = "pretrain --dry-run --data.shards {world}/shards"
_VOCAB = "{root}/data_shards/debug_vocab.txt"
_BUILD = f"shards build a.txt --out out --tokenizer {_VOCAB}"
_FINETUNE = "finetune --from {world}/run --train a.jsonl --dev a.jsonl --run.folder out"
_BERT = "finetune --from bert --train a.jsonl --dev a.jsonl --run.folder out"

_CALLS = [
    _mistake("frobnicate", "no command 'frobnicate'", "pretrain"),
    _mistake("shards", "build, annotate, sentences, pair, show"),
    _mistake("shards biuld a.txt", "biuld", "build"),
    _mistake("shards build a.txt", "--out", "--tokenizer"),
    _mistake("runs", "spe runs diff A B"),
    _mistake("trian a.bio", "no command 'trian'"),
    _mistake("kb", "spe kb convert"),
    _mistake("kb convert nowhere --out out", "nowhere: no such file or folder"),
    _mistake("kb convert a.json --out out", "no facts are left to write", a__json="[\n]\n"),
    _mistake("shards audit {world}/shards", "--out FILE", "--judged FILE"),
    _mistake("shards audit {world}/shards --out a.tsv", "no documents with entities and relations"),
    _mistake("shards pair {world}/shards --out out", "no documents with entities and relations"),
    _mistake("shards pair {world}/shards --out out --most-sentences 1", "most_sentences must be at least 2"),
    _mistake("data convert {world}/shards a.jsonl", "no documents with entities and relations"),
    _mistake("checkpoint list", "missing", "PATH"),
    _mistake("compare {world}/run", "missing", "RUN_B"),
    _mistake("bench span-pol", "span-pol", "span-pool"),
    _mistake("predict {world}/model --batch-size 1.5", "--batch-size 1.5", "whole number"),
    _mistake("slurm --nodes two", "--nodes two", "whole number"),
    _mistake("plan --vocabulary many", "--vocabulary many", "number"),
    _mistake("checkpoint verify {world}/run last", "last"),
]
_PRETRAIN = [
    _mistake("pretrain --config nosuch", "no such file or recipe", "spe_wiki"),
    _mistake("pretrain --config auto --encoder.name-or-path ./nosuch", "cannot load './nosuch'"),
    _mistake("pretrain --config a.yaml", "a.yaml", "No such file"),
    _mistake("pretrain --config b.yaml", "b.yaml", "not YAML", b__yaml="method: [spe"),
    _mistake("pretrain --config c.yaml", "holds no settings", c__yaml="- method: spe\n"),
    _mistake("pretrain --config d.yaml", "method is 'bert'", "spe, enpar", d__yaml="method: bert\n"),
    _mistake(
        "pretrain --config e.yaml",
        "e.yaml: unknown key 'cspo.temprature', did you mean 'cspo.temperature'?",
        e__yaml="method: spe\ncspo: {temprature: 0.1}\n",
    ),
    _mistake("pretrain --config f.yaml", "f.yaml", "invalid UTF-8 at byte 9", f__yaml=b"method: \xff\xfe\n"),
    _mistake("pretrain --config", "--config needs"),
    _mistake("pretrain --cspo.temprature 0.1", "--cspo.temprature", "did you mean --cspo.temperature"),
    _mistake(f"{_DRY} --train.steps many", "--train.steps many", "whole number"),
    _mistake(f"{_DRY} --train.steps", "--train.steps needs a value"),
    _mistake(f"{_DRY} --train.steps 0", "train.steps 0: input should be greater than 0 "),
    _mistake(f"{_DRY} --train.precision fp8", "--train.precision fp8", "bf16, fp32"),
    _mistake(f"{_DRY} --train.zero-stage 4", "zero", "4"),
    _mistake(f"{_DRY} --batch.lanes 0", "batch.lanes 0: "),
    _mistake(f"{_DRY} --data.fraction 2", "data.fraction 2"),
    _mistake(f"{_DRY} --data.held-out 5", "data.held_out is 5 of ", "at least one global batch"),
    _mistake(f"{_DRY} --track weights", "run.track weights", "mlflow, trackio, wandb"),
    _mistake(f"{_DRY} --cspo.momentum 1.5", "cspo.momentum 1.5"),
    _mistake(f"{_DRY} --optimizer.learning-rate -1", "optimizer.learning_rate -1"),
    _mistake(f"{_DRY} --train.steps 3 --optimizer.warmup-steps 9", "warmup_steps is 9"),
    _mistake(f"{_DRY} --cluster.workers 100", "100 workers", "lanes"),
    _mistake(f"{_DRY} --cluster.min-workers 2 --cluster.workers 1", "min_workers is 2"),
    _mistake(f"{_DRY} --compute.compile --train.zero-stage 3", "stage 1 or 2"),
    _mistake(f"{_DRY} --compute.graph-pieces 100", "compute.graph_pieces 100", "64"),
    _mistake(f"{_DRY} --encoder.name-or-path nosuch/encoder", "encoder.name_or_path", "nosuch/encoder"),
    _mistake(f"{_DRY} --run.folder ftp://host/runs", "ftp://host/runs"),
    _mistake("pretrain --dry-run --data.shards nosuch", "nosuch", "spe shards build"),
    _mistake("pretrain --dry-run --data.shards {world}/run", "run is not a dataset", "spe shards build"),
    _mistake("pretrain --dry-run --data.shards {world}", "spe shards build"),
]
_SHARDS = [
    _mistake(_BUILD, "a.txt", "no such file"),
    _mistake(_BUILD.replace("a.txt", "a.pdf"), "'.pdf'", "--format", a__pdf="x"),
    _mistake(_BUILD.replace("a.txt", "empty"), "empty", "without files", **{"empty/__hidden": ""}),
    _mistake(_BUILD.replace("a.txt", "- -"), "standard input"),
    _mistake(_BUILD.replace("a.txt", "-"), "standard input is empty"),
    _mistake("shards build a.txt --out out --tokenizer nosuch.txt", "no tokenizer there", a__txt=_LINES),
    _mistake(
        "shards build a.txt --out out --tokenizer v.txt", "[MASK]", a__txt=_LINES, v__txt="[PAD]\n[UNK]\n[CLS]\n[SEP]\n"
    ),
    _mistake("shards build a.txt --out out --tokenizer t", "no tokenizer.json", a__txt=_LINES, **{"t/a": ""}),
    _mistake(
        "shards build a.txt --out out --tokenizer t.json", "t.json", "not a tokenizer", a__txt=_LINES, t__json="{}"
    ),
    _mistake("shards build a.txt --out out --tokenizer nosuch/hub", "nosuch/hub", "hub", a__txt=_LINES),
    _mistake(f"{_BUILD} --max-words 1 --min-words 5", "max_words (1)"),
    _mistake(f"{_BUILD} --max-pieces 2", "max_pieces must be"),
    _mistake(f"{_BUILD} --block-records 0", "block_records must be at least 1"),
    _mistake(f"{_BUILD} --format pdf", "--format pdf", "wikiextractor"),
    _mistake(f"{_BUILD} --min-entities 2", "--gold-entities"),
    _mistake(f"{_BUILD} --ner en --gold-entities", "not from both"),
    _mistake(f"{_BUILD} --ner nosuch", "nosuch", a__txt=_LINES),
    _mistake(f"{_BUILD} --gold-entities", "has no entities", a__txt=_LINES),
    _mistake(_BUILD.replace("--out out", "--out full"), "full", a__txt=_LINES, **{"full/notes__txt": "mine"}),
    _mistake(_BUILD.replace("--out out", "--out file"), "file", a__txt=_LINES, file="mine"),
    _mistake("shards show nosuch", "nosuch"),
    _mistake("shards show {world}/shards --record 100000", "records 0 to"),
    _mistake("shards show {world}/shards --step -1", "--step is -1"),
    _mistake(
        f"shards build d --out d/out --tokenizer {_VOCAB}", "d/out is in the input folder d", **{"d/a.txt": _LINES}
    ),
    _mistake(f"{_DRY} --run.name ..", "run.name", "the name of a folder", "'..'"),
    _mistake("shards show {world}/shards --count 0", "records 0 to"),
    _mistake("shards show {world}/shards --config nosuch", "nosuch"),
    _mistake("shards show {world}/damaged_shards", ".tar", "truncated or replaced"),
    _mistake("shards verify nosuch", "nosuch"),
    _mistake("shards verify {world}/damaged_shards", "1 problem; "),
    _mistake("shards verify .", "manifest.json", manifest__json="{"),
    _mistake("shards annotate nosuch --out out --ner en", "nosuch"),
    _mistake("shards annotate {world}/shards --out out --ner nosuch", "nosuch"),
    _mistake("shards annotate {world}/shards --out out --ner en --workers 0", "at least 1"),
    _mistake(
        "shards train-vocab a.jsonl --out v.txt --size 99",
        "a.jsonl:2",
        "invalid JSON",
        a__jsonl='{"text": "a"}\n{"text"\n',
    ),
    _mistake("shards train-vocab b.jsonl --out v.txt --size 99", "no field 'text'", b__jsonl='{"body": "a"}\n'),
    _mistake("shards train-vocab a.txt --out v.txt --size 2", "--size 2 is too small", a__txt=_LINES),
    _mistake(
        "shards train-vocab a.txt.gz --out v.txt --size 99", "truncated", a__txt__gz=gzip.compress(b"a b\n" * 99)[:-9]
    ),
    _mistake("shards train-vocab b.txt --out v.txt --size 99", "UTF-16 text", b__txt=b"\xff\xfe\n"),
    _mistake("shards train-vocab a.parquet --out v.txt --size 99", "not a Parquet file", a__parquet=b"PAR1PAR1"),
    _mistake(
        "shards train-vocab b.parquet --out v.txt --size 99",
        "no column 'text'",
        "body",
        b__parquet=_parquet(body=["a"]),
    ),
    _mistake("shards train-vocab c.parquet --out v.txt --size 99", "not strings", c__parquet=_parquet(text=[1])),
    _mistake("shards sample-corpus --out . --sentences 9", "folder"),
    _mistake("shards sample-corpus --out a.jsonl --sentences -1", "--sentences must be at least 1"),
    _mistake("shards sample-corpus --out a --documents -1", "not negative"),
    _mistake("shards sample-corpus --out a --documents 5 --negatives 2", "leave it out with --documents"),
]
_ANNOTATED = [
    _mistake("data check", "no input"),
    _mistake("data check nosuch.jsonl", "nosuch.jsonl"),
    _mistake("data check a.jsonl", "a.jsonl", a__jsonl=""),
    _mistake("data check b.jsonl", "b.jsonl", b__jsonl="[1, 2]\n"),
    _mistake("data check c.jsonl", "c.jsonl", c__jsonl='{"text"'),
    _mistake("data check d.jsonl", "d.jsonl", d__jsonl='{"question": "?"}\n'),
    _mistake("data check e.jsonl", "e.jsonl", e__jsonl=_DATA.replace('"end": 4', '"end": 9')),
    _mistake("data check a.jsonl a.jsonl", "twice", a__jsonl=_DATA),
    _mistake("data check a.jsonl --format csv", "--format csv", a__jsonl=_DATA),
    _mistake("data check a.jsonl --json --triples", "--triples", a__jsonl=_DATA),
    _mistake("data check a.jsonl --tokenizer nosuch.txt", "no tokenizer there", a__jsonl=_DATA),
    _mistake("data convert a.jsonl a.jsonl", "the input file", a__jsonl=_DATA),
    _mistake("data convert a.jsonl b.json --to brat", "format brat is written as a folder", a__jsonl=_DATA),
    _mistake("data convert a.jsonl b.txt --to spacy", "end in .spacy", a__jsonl=_DATA),
    _mistake("data wikihop-from-docred a.jsonl --out b.json", "a.jsonl has no head and relation", a__jsonl=_DATA),
    _mistake("data split a.jsonl --out out", "name the size of a part", a__jsonl=_DATA),
    _mistake(_BERT.replace("finetune", "finetune extractive-qa"), "a.jsonl:1", "'question'", a__jsonl=_DATA),
    _mistake(
        _BERT.replace("finetune", "finetune multi-choice"),
        "a.jsonl:1",
        "no field 'candidates'",
        a__jsonl='{"supports": []}\n',
    ),
    _mistake(f"{_BERT} --offsets utf16".replace("finetune", "finetune multi-choice"), "data.offsets", a__jsonl=_DATA),
]
_EXTRACTION = [
    _mistake(_FINETUNE, "a.jsonl"),
    _mistake(f"{_FINETUNE} --dry-run --encoder bert", "--encoder"),
    _mistake(f"{_FINETUNE} --seeds 0", "seeds 0: ", a__jsonl=_DATA),
    _mistake(f"{_FINETUNE} --fraction 2", "data.fraction 2", a__jsonl=_DATA),
    _mistake(f"{_FINETUNE} --learning-rate 1", "--optimizer.learning-rate", a__jsonl=_DATA),
    _mistake(f"{_FINETUNE} --config nosuch", "no such file or recipe"),
    _mistake("finetune --from nosuch --train a.jsonl --dev a.jsonl --dry-run", "nosuch", a__jsonl=_DATA),
    _mistake("finetune --from {world}/shards --train a.jsonl --dev a.jsonl --dry-run", "shards", a__jsonl=_DATA),
    _mistake("finetune --train a.jsonl --dev a.jsonl --run.folder out", "bert-base-cased", a__jsonl=_DATA),
    _mistake("finetune --train nosuch.jsonl --dev a.jsonl --dry-run", "nosuch.jsonl", a__jsonl=_DATA),
    _mistake(f"{_BERT} --encoder nosuch/encoder", "nosuch/encoder", a__jsonl=_DATA),
    _mistake("predict nosuch a.txt", "nosuch", "spe finetune", a__txt=_LINES),
    _mistake("predict {world}/model a.txt --format neo4j", "name it with --out", a__txt=_LINES),
    _mistake("suggest nosuch a.txt", "nosuch", "spe finetune", a__txt=_LINES),
    _mistake("suggest {world}/model a.txt --count 0", "at least one text", a__txt=_LINES),
    _mistake("label-studio nosuch", "nosuch", "spe finetune"),
    _mistake("serve", "name the folder of a model"),
    _mistake("serve {world}/run", "not an extractor"),
    _mistake("serve a={world}/model a={world}/model", "two models have the name a"),
    _mistake("serve a/b={world}/model", "the name 'a/b' may have only"),
    _mistake("serve m={world}/model --replicas 4:2", "--replicas 4:2", "1:4"),
    _mistake("serve m={world}/model --grace -1", "--grace -1: it must be a number, 0 or more"),
    _mistake("serve m={world}/model --max-texts 0", "--max-texts 0", "at least 1"),
    _mistake("serve m={world}/model --no-token --host 0.0.0.0", "--no-token", "0.0.0.0"),
    _mistake("serve m={world}/model --token-file nosuch/token", "nosuch/token", "No such file"),
    _mistake("serve m={world}/model --port 70000", "port 70000", "choose another --port"),
    _mistake("bench serve -- {world}/model a.txt", "1 text, fewer than 200", a__txt=_LINES),
    _mistake("bench serve predict", "measure it alone"),
    _mistake("predict {world}/run a.txt", "not an extractor", a__txt=_LINES),
    _mistake("predict nobody/model a.txt", "nobody/model", "HF_HUB_OFFLINE is set", a__txt=_LINES),
    _mistake("push nosuch ann/model", "nosuch is not an extractor", "spe finetune"),
    _mistake("push {world}/run ann/model", "is a run: export it", "spe export"),
    _mistake("push {world}/model ann", "give USER/MODEL"),
    _mistake("predict {world}/model nosuch.txt", "nosuch.txt", "no such file"),
    _mistake("predict {world}/model .", "folder"),
    _mistake("predict {world}/model a.txt --text Ann", "not both", a__txt=_LINES),
    _mistake("predict {world}/model a.txt --out nosuch/b.jsonl", "nosuch", a__txt=_LINES),
    _mistake("predict {world}/model a.txt --out b.pdf", "--format", a__txt=_LINES),
    _mistake("predict {world}/model a.txt --out a.txt", "an input file", a__txt=_LINES),
    _mistake("predict {world}/model a.txt --device cuda:9", "cuda:9", a__txt=_LINES),
    _mistake("predict {world}/model a.txt --device tpu", "tpu", a__txt=_LINES),
    _mistake("predict {world}/model a.txt --batch-size 0", "batch", a__txt=_LINES),
    _mistake("predict {world}/model a.jsonl", "a.jsonl, line 2", a__jsonl='{"text": "a"}\n{"text": 7}\n'),
    _mistake("predict {world}/model b.jsonl", "b.jsonl, line 1", "--text-field", b__jsonl='{"body": "a"}\n'),
    _mistake("predict {world}/damaged_model a.txt", "damaged_model", a__txt=_LINES),
    _mistake("compare nosuch nosuch", "nosuch"),
    _mistake("compare {world}/run {world}/run", "run"),
    _mistake("compare nosuch nosuch --resamples 0", "--resamples is 0"),
    _mistake("compare nosuch nosuch --cases 0", "--cases is 0"),
    _mistake("bench predict", "missing"),
    _mistake("bench predict packing", "alone"),
    _mistake("bench predict -- nosuch a.txt", "nosuch", a__txt=_LINES),
    _mistake("bench packing -- --data.shards nosuch", "nosuch", "spe shards build"),
    _mistake("ablate --pretrain data.shards=nosuch", "nosuch"),
    _mistake("compare-pretraining --config nosuch", "--config nosuch", "ablations_spe_cpu"),
]
_SEMEVAL = '1\t"The <e1>audits</e1> were about <e2>waste</e2>."\n'
_TEXT = "🎉 Ann runs Acme."
_FIGER = json.dumps([{"sent": _TEXT, "start": len(_TEXT.encode()) - 5, "end": len(_TEXT.encode()) - 1, "labels": []}])
_ASKED = json.dumps({"query": "owner ann", "candidates": ["acme"], "supports": ["Acme"], "answer": "ann"}) + "\n"
_RAW = "predict {world}/document_relations/model a.txt --mentions"
_DOCUMENT = {
    "title": "d",
    "sents": [["Ann", "runs", "Acme"]],
    "vertexSet": [[{"name": "Ann", "pos": [0, 5], "sent_id": 0, "type": "PER"}]],
    "labels": [],
}
_OF_TASKS = [
    _mistake(
        "finetune sentence-relations --from bert --train a.txt --run.folder out", "no relation below", a__txt=_SEMEVAL
    ),
    _mistake("finetune sentence-relations --from bert --train b.txt --run.folder out", "b.txt begins", b__txt=_LINES),
    _mistake("finetune entity-typing --from bert --train a.json --run.folder out", "(--dev FILE)", a__json=_FIGER),
    _mistake(
        "finetune entity-typing --from bert --train a.txt --dev a.txt --run.folder out",
        "a.txt is lines of text, not JSON: FIGER's",
        a__txt=_LINES,
    ),
    _mistake(
        _BERT.replace("finetune", "finetune document-relations"), "words 0 to 2", a__jsonl=json.dumps(_DOCUMENT) + "\n"
    ),
    _mistake(f"{_BERT} --name asked".replace("finetune", "finetune multi-choice"), "not among", a__jsonl=_ASKED),
    _mistake(
        "finetune multi-choice --from e --train a.jsonl --dev a.jsonl --run.folder out",
        "e is an encoder alone: give --from bert --encoder e",
        **{"e/config__json": "{}"},
    ),
    _mistake("predict {world}/sentence_relations a.txt", "did you mean", "sentence_relations/model", a__txt=_SEMEVAL),
    _mistake("predict {world}/entity_typing/seed-9/model a.txt", "is not there, did you mean", a__txt=_SEMEVAL),
    _mistake("predict {world}/sentence_relations/model a.txt", "a.txt begins with", a__txt=_LINES),
    _mistake("predict {world}/sentence_relations/model a.txt --out b.html", "end its name in .jsonl", a__txt=_SEMEVAL),
    _mistake("predict {world}/sentence_relations/model no.txt --out b.jsonl", "no.txt: no such file", b__jsonl="mine"),
    _mistake("predict {world}/entity_typing/model a.json", "the mention is on", "--offsets", a__json=_FIGER),
    _mistake("predict {world}/entity_typing/model a.json --batch-size 0", "--batch-size 0", a__json=_FIGER),
    _mistake("predict {world}/multi_choice/model a.jsonl --out b.jsonl", "a.jsonl:1: the answer", a__jsonl=_ASKED),
    _mistake("predict {world}/multi_choice/model a.jsonl --offsets utf16", "no offsets", "remove it", a__jsonl=_ASKED),
    _mistake("predict {world}/extractive_qa/model a.json", "holds no questions", a__json='{"data": []}'),
    _mistake("predict {world}/extractive_qa/model --text Who", "--text is for tasks that read one text"),
    _mistake("predict {world}/extractive_qa/model a.jsonl --out b.jsonl", "neither 'data'", a__jsonl=_ASKED),
    _mistake(
        "predict {world}/document_relations/model a.txt", "nothing in a.txt gives mentions", "--mentions", a__txt=_LINES
    ),
    _mistake("predict {world}/document_relations/model --text Ann", "--text is for raw text", "--mentions EXTRACTOR"),
    _mistake(f"{_RAW} {{world}}/model", "text 1 gives mentions", "leave --mentions out", a__txt=_DATA),
    _mistake(f"{_RAW} {{world}}/run", "run is not an extractor", "or name a pipeline of spaCy", a__txt=_LINES),
    _mistake(f"{_RAW} {{world}}/entity_typing", "did you mean", "entity_typing/model", a__txt=_LINES),
    _mistake(f"{_RAW} en_nothing", "no spaCy pipeline 'en_nothing'", "install it", a__txt=_LINES),
    _mistake(f"{_RAW} nlp", "cannot load this pipeline", a__txt=_LINES, **{"nlp/config__cfg": "[nlp"}),
    _mistake(f"{_RAW} {{world}}/model --offsets utf16", "--offsets", "remove it", a__txt=_LINES),
    _mistake(f"{_RAW} nlp --batch-size 2", "is for extractors", a__txt=_LINES, **{"nlp/meta__json": "{}"}),
    _mistake("predict {world}/model a.txt --mentions x", "is for models of document relations", a__txt=_LINES),
    _mistake("predict {world}/entity_typing/model a.json --mentions x", "--mentions", "remove it", a__json=_FIGER),
    _mistake("predict {world}/model a.txt --offsets bytes", "--offsets", "extractor", a__txt=_LINES),
]
_RUNS = [
    _mistake("export nosuch", "nosuch"),
    _mistake("export {world}/new_run", "new_run"),
    _mistake("export {world}/damaged_run", "damaged_run"),
    _mistake("export {world}/run --weights best", "--weights best", "momentum"),
    _mistake("export nosuch --format onnx --texts a.txt", "nosuch is not an extractor", a__txt="Ann"),
    _mistake("export {world}/run --data a.json", "--data", "--format"),
    _mistake("export {world}/run --format tflite", "--format", "onnx", "int8"),
    _mistake("export {world}/run --out file", "file", file="mine"),
    _mistake("export {world}/run --out full", "full", **{"full/notes__txt": "mine"}),
    _mistake("checkpoint list nosuch", "not a run"),
    _mistake("checkpoint list {world}/new_run", "no finished checkpoint"),
    _mistake("checkpoint verify {world}/run 999", "no checkpoint of step 999"),
    _mistake("checkpoint verify {world}/damaged_run", "damaged"),
    _mistake("runs diff nosuch {world}/run", "nosuch"),
    _mistake("runs diff {world}/run {world}/shards", "shards"),
    _mistake("runs diff {world}/run {world}/run --rtol x", "--rtol x"),
    _mistake("report nosuch --out out", "nosuch"),
    _mistake("report {world}/run", "missing", "--out"),
    _mistake("report {world}/run --out file", "file", file="mine"),
    _mistake("plan --data.shards nosuch", "nosuch", "--vocabulary"),
    _mistake("plan --vocabulary 0", "--vocabulary 0"),
    _mistake("plan --vocabulary 100 --cluster.workers 999", "999 workers", "lanes"),
    _mistake("plan --vocabulary 100 --gpus 8", "unknown argument --gpus"),
    _mistake("plan --vocabulary 100 --encoder.name-or-path nosuch/encoder", "nosuch/encoder"),
    _mistake("doctor --local --seconds soon", "--seconds"),
    _mistake("doctor --local --config nosuch", "nosuch"),
    _mistake("doctor --local --seconds -1", "--seconds"),
    _mistake("slurm --nodes 3 --cluster.workers 2", "nodes"),
    _mistake("slurm --nodes 0", "--nodes 0", "at least 1"),
    _mistake("slurm --out nosuch/job.sh", "nosuch"),
    _mistake("slurm --config nosuch", "nosuch"),
]

MISTAKES = [*_CALLS, *_PRETRAIN, *_SHARDS, *_ANNOTATED, *_EXTRACTION, *_OF_TASKS, *_RUNS]
