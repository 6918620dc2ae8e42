"""What a model begins as: exactly what was pre-trained, and a report of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

from data_shards.errors import UserError
from spe_dist.checkpoint.reader import newest_checkpoint
from spe_dist.export.export_run import export_run
from spe_dist.extraction.config import ExtractionConfig
from spe_dist.extraction.model.encoded_sentences import Labels
from spe_dist.extraction.predict.extractor_folder import ExtractorDescription, load_extractor
from spe_dist.finetuning.card import started_and_trained
from spe_dist.finetuning.folder import Result
from spe_dist.finetuning.start import Start, language_of_start, load_start
from spe_dist.recipe import checked_config, read_values
from tests.unit.spe_dist.extraction.tiny import ANY_TYPES, LABELS, word_pieces
from tests.unit.spe_dist.tiny_run import ROOT, train_tiny_run

pytestmark = pytest.mark.any_version

RECIPE = ROOT / "launcher" / "recipes" / "finetune_spe.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tiny_run(tmp_path_factory.mktemp("pretrained"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder with a pooler, as people publish them."""
    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    BertModel(BertConfig(vocab_size=word_pieces().vocab_size, **sizes)).save_pretrained(folder)
    word_pieces().save(folder)
    return folder


SPE = {
    "detector": "tags", "pair_encoder": "attention", "dropout": 0.1,
    "span_encoder": {"kernel_sizes": [2, 3, 4], "channels": 8, "size": 24},
    "context_encoder": {"kernel_sizes": [2, 3, 4], "channels": 8, "size": 24},
    "attention": {"attention_size": 16, "position_size": 4},
}  # fmt: skip
ENPAR = {
    "detector": "tags", "pair_encoder": "concatenation", "dropout": 0.1,
    "span_encoder": {"kernel_sizes": [2, 3, 4], "channels": 8, "size": 20},
    "context_encoder": {"kernel_sizes": [3, 4, 5], "channels": 6, "size": 12}, "pair_size": 14,
}  # fmt: skip


def config_of(encoder: str | None = None, *, model: dict = SPE, **start: object) -> ExtractionConfig:
    config = checked_config(ExtractionConfig, read_values(RECIPE) | {"model": model}, source="test")
    return replace(
        config, start=replace(config.start, **start), encoder=replace(config.encoder, name_or_path=encoder, layers=1)
    )


def load(config: ExtractionConfig, *, seed: int = 0) -> Start:
    torch.manual_seed(seed)
    config.check()
    return load_start(config.build_task(), description_of(config))


def description_of(config: ExtractionConfig, labels: Labels = LABELS) -> ExtractorDescription:
    return ExtractorDescription(
        entity_types=labels.entity_types,
        relation_types=labels.relation_types,
        architecture=config.model.architecture,
        constraints=ANY_TYPES,
        language="en",
    )


def trained_weights(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = newest_checkpoint(run / "checkpoints")
    names = [name for name in checkpoint.names() if name.startswith("encoder.") and name.endswith(".master")]
    return {name.removeprefix("encoder.").removesuffix(".master"): checkpoint.get(name) for name in names}


def equal_weights(start: Start, expected: dict[str, torch.Tensor]) -> set[str]:
    """Parts of the model all of whose weights are the expected ones."""
    found: dict[str, set[bool]] = {}
    for name, parameter in start.model.named_parameters():
        expected_name = name if name in expected else name.replace("context_encoder", "span_encoder")
        same = expected_name in expected and torch.equal(parameter, expected[expected_name])
        found.setdefault(name.partition(".")[0], set()).add(same)
    return {part for part, same in found.items() if same == {True}}


def sentence_of_card(config: ExtractionConfig, start: Start) -> str:
    told = started_and_trained(config, Result(1, 3, 2, {}, None, start=start.report.origin))
    return told.partition(" It was fine-tuned for 3 epochs")[0]


PRETRAINED = {"sentence_encoder", "span_encoder", "context_encoder", "pair_encoder"}


def test_a_run_gives_all_its_encoders(run):
    config = config_of(pretrained=str(run))
    start = load(config)
    assert equal_weights(start, trained_weights(run)) == PRETRAINED
    report = start.report
    assert len(report.loaded) == 4 and str(report).count(f" of {run}, step 3") == 4
    assert sentence_of_card(config, start) == (
        "The sentence encoder, span encoder, context encoder (a copy of the span encoder) and span pair encoder "
        f"started from the run `{run.name}`; classifiers of spans, types and relations from new weights."
    )
    assert report.new == ("classifiers of spans, types and relations",)
    assert report.left_out == (f"projection head of {run}",)
    assert "loaded: sentence encoder of" in str(report)


def test_an_export_gives_the_same_as_its_run(run, tmp_path):
    exported = export_run(run, tmp_path / "export")
    start = load(config_of(pretrained=str(exported)))
    assert equal_weights(start, trained_weights(run)) == PRETRAINED


def test_without_cnn_only_the_sentence_encoder_is_the_runs(run):
    start = load(config_of(pretrained=str(run), no_cnn=True))
    assert equal_weights(start, trained_weights(run)) == {"sentence_encoder"}
    assert [part.split(" of ")[0] for part in start.report.left_out] == [
        "span encoder", "span pair encoder", "projection head"
    ]  # fmt: skip
    assert start.report.new[0] == "span encoder"


@pytest.fixture(scope="module")
def enpar_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_tiny_run(tmp_path_factory.mktemp("enpar"), "enpar_debug")


def test_a_run_of_enpar_gives_its_encoders_and_its_own_of_contexts(enpar_run):
    start = load(config_of(model=ENPAR, pretrained=str(enpar_run)))
    weights = trained_weights(enpar_run)
    assert any(name.startswith("context_encoder.") for name in weights)
    assert equal_weights(start, weights) == PRETRAINED
    assert start.report.left_out == ()
    assert start.report.loaded == ("sentence encoder", "span encoder", "context encoder", "span pair encoder")


def test_an_export_of_enpar_gives_the_same_as_its_run(enpar_run, tmp_path):
    start = load(config_of(model=ENPAR, pretrained=str(export_run(enpar_run, tmp_path / "export"))))
    assert equal_weights(start, trained_weights(enpar_run)) == PRETRAINED
    card = (tmp_path / "export" / "README.md").read_text()
    assert "EACL 2021" in card
    assert "adversarial context discrimination (ACD), weight 1" in card
    assert "| masking.masked | 0.15 |" in card


def test_without_cnn_a_run_of_enpar_gives_its_sentence_encoder(enpar_run):
    start = load(config_of(model=ENPAR, pretrained=str(enpar_run), no_cnn=True))
    assert equal_weights(start, trained_weights(enpar_run)) == {"sentence_encoder"}
    assert [part.split(" of ")[0] for part in start.report.left_out] == [
        "span encoder", "context encoder", "span pair encoder"
    ]  # fmt: skip


def test_the_architecture_is_the_recipes_and_what_does_not_fit_is_new(run, enpar_run, bert):
    """So that starts can be compared: only the weights differ."""
    configs = [
        config_of(name, model=ENPAR, pretrained=pretrained)
        for name, pretrained in ((None, str(run)), (None, str(enpar_run)), (str(bert), "bert"))
    ]
    starts = [load(config) for config in configs]
    parts = [[name for name, _ in start.model.named_parameters() if "encoder.model" not in name] for start in starts]
    assert parts[0] == parts[1] == parts[2]
    assert equal_weights(starts[0], trained_weights(run)) == {"sentence_encoder"}
    assert starts[0].report.left_out == (
        f"span encoder of {run} (the model's has other sizes)",
        f"span pair encoder of {run} (the model's has other sizes)",
        f"projection head of {run}",
    )
    assert starts[0].report.new[:3] == ("span encoder", "context encoder", "span pair encoder")  # no copy: other sizes
    assert starts[0].description.architecture == starts[1].description.architecture
    new = "span encoder, context encoder, span pair encoder and classifiers of spans, types and relations"
    for number, source in ((0, f"run `{run.name}`"), (2, f"encoder `{bert.name}`")):
        told = sentence_of_card(configs[number], starts[number])
        assert told == f"The sentence encoder started from the {source}; {new} from new weights."


def test_parts_that_do_not_fit_each_other_are_refused(run):
    other_context = SPE | {"context_encoder": ENPAR["context_encoder"]}
    with pytest.raises(UserError, match=r"size is 24 and model\.context_encoder\.size is 12: make them equal"):
        load(config_of(model=other_context, pretrained=str(run)))


def test_a_run_that_trained_no_pairs_gives_what_it_has(tmp_path):
    run = train_tiny_run(tmp_path, cspo={"weight": 0.0}, train={"steps": 1})
    start = load(config_of(pretrained=str(run)))
    assert equal_weights(start, trained_weights(run)) == PRETRAINED - {"pair_encoder"}
    assert "span pair encoder" in start.report.new


def test_dropout_is_that_of_fine_tuning(run):
    start = load(config_of(pretrained=str(run)))
    dropouts = {name: m.p for name, m in start.model.named_modules() if isinstance(m, torch.nn.Dropout)}
    attention = {p for name, p in dropouts.items() if "attention.self" in name}
    assert attention == {0.0}
    assert {p for name, p in dropouts.items() if "attention.self" not in name} == {0.1}


def test_bert_gives_the_sentence_encoder_and_says_what_it_leaves_out(bert):
    start = load(config_of(str(bert), pretrained="bert"))
    published = {f"sentence_encoder.model.{name}": w for name, w in load_file(bert / "model.safetensors").items()}
    assert equal_weights(start, published) == {"sentence_encoder"}
    assert str(start.report).startswith(f"loaded: sentence encoder of {bert}; new: ")
    assert start.report.left_out == (f"pooler.dense.bias of {bert}", f"pooler.dense.weight of {bert}")
    context, span = (dict(part.named_parameters()) for part in (start.model.context_encoder, start.model.span_encoder))
    assert all(torch.equal(context[name], span[name]) for name in span)


def test_a_new_encoder_needs_a_tokenizer(bert):
    with pytest.raises(UserError, match=r"no encoder: name one \(--encoder NAME\).*--from RUN.*--start\.tokenizer"):
        load(config_of(pretrained="bert"))
    start = load(config_of(pretrained="bert", tokenizer=str(bert)))
    assert start.report.loaded == ()
    assert start.report.new[0] == "sentence encoder"
    assert start.model.sentence_encoder.word_embeddings.num_embeddings == word_pieces().vocab_size


def test_nothing_is_loaded_in_part(bert, tmp_path):
    broken = Path(shutil.copytree(bert, tmp_path / "broken"))
    weights = load_file(bert / "model.safetensors")
    save_file({k: w for k, w in weights.items() if "layer.0.output.dense" not in k}, broken / "model.safetensors")
    with pytest.raises(UserError, match=r"lacks 2 of the weights .*layer\.0\.output\.dense\.bias: name a complete"):
        load(config_of(str(broken), pretrained="bert"))
    config = json.loads((bert / "config.json").read_text())
    shutil.copy(bert / "model.safetensors", broken)
    (broken / "config.json").write_text(json.dumps(config | {"intermediate_size": 32}))
    with pytest.raises(UserError, match="has them in another shape"):
        load(config_of(str(broken), pretrained="bert"))


def test_a_missing_place_is_an_error(run, tmp_path):
    with pytest.raises(UserError, match=r"nowhere is neither a run .* nor an exported model"):
        load(config_of(pretrained=str(tmp_path / "nowhere")))
    with pytest.raises(UserError, match="nowhere"):
        load(config_of(str(tmp_path / "nowhere"), pretrained="bert"))
    with pytest.raises(UserError, match=r"name a run \(--from\)"):
        load(config_of("any", pretrained="bert", no_cnn=True))
    exported = export_run(run, tmp_path / "export")
    weights = load_file(exported / "span_pair.safetensors")
    save_file({k: w for k, w in weights.items() if "taps" not in k}, exported / "span_pair.safetensors")
    with pytest.raises((UserError, RuntimeError), match="taps"):
        load(config_of(pretrained=str(exported)))


@pytest.fixture(scope="module")
def fine_tuned(learned) -> Path:
    return Path(learned[0].run_folder) / "seed-1" / "model"


def from_fine_tuned(learned, folder: Path, labels: Labels = LABELS, **start: object) -> Start:
    config = replace(learned[0], start=replace(learned[0].start, pretrained=str(folder), **start))
    return load_start(config.build_task(), description_of(config, labels))


def test_a_fine_tuned_model_gives_all_it_has_to_the_same_labels(learned, fine_tuned):
    start = from_fine_tuned(learned, fine_tuned)
    weights, (trained, _) = dict(start.model.named_parameters()), load_extractor(fine_tuned)
    assert all(torch.equal(weights[name], weight) for name, weight in trained.named_parameters())
    assert (start.report.new, start.report.left_out) == ((), ())
    heads = "classifiers of spans, types and relations"
    assert start.report.loaded[-1] == heads and f"{heads} of {fine_tuned}, extractor " in str(start.report)
    config = replace(learned[0], start=replace(learned[0].start, pretrained=str(fine_tuned)))
    assert sentence_of_card(config, start).endswith(f" and {heads} started from the fine-tuned model `tiny/seed-1`.")
    assert start.model.calibration is None  # fitted anew on dev
    assert language_of_start(config) == "en"


@pytest.mark.parametrize(
    ("labels", "settings", "why"),
    [
        (Labels(("LOC", "PER"), LABELS.relation_types), {}, "it has other labels"),
        (LABELS, {"keep_heads": False}, "start.keep_heads is not set"),
        (LABELS, {"no_cnn": True}, "start.no_cnn is set"),
    ],
)
def test_its_classifiers_are_dropped_where_they_cannot_or_must_not_stay(learned, fine_tuned, labels, settings, why):
    start = from_fine_tuned(learned, fine_tuned, labels, **settings)
    parts = {"sentence_encoder"} if "no_cnn" in settings else PRETRAINED
    trained = dict(load_extractor(fine_tuned)[0].named_parameters())
    assert parts <= equal_weights(start, trained)
    assert not torch.equal(start.model.types.weight[:2], trained["types.weight"][:2])
    assert start.report.new[-1] == "classifiers of spans, types and relations"
    assert start.report.left_out[-1] == f"classifiers of {fine_tuned} ({why})"


def test_the_folder_of_a_fine_tuning_is_no_model_but_says_where_they_are(learned, fine_tuned, tmp_path):
    for folder in (fine_tuned.parent, fine_tuned.parent.parent):
        with pytest.raises(
            UserError, match=rf"{folder} is the folder of a fine-tuning, whose models are {fine_tuned}: "
        ):
            from_fine_tuned(learned, folder)
    damaged = Path(shutil.copytree(fine_tuned, tmp_path / "damaged"))
    (damaged / "extractor.safetensors").write_bytes(b"short")
    with pytest.raises(UserError, match=rf"{damaged} is not a complete extractor \(.*\): copy it again"):
        from_fine_tuned(learned, damaged)
    (damaged / "extractor.json").write_text("{}")
    with pytest.raises(UserError, match=r"extractor\.json cannot be read \(names no language\)"):
        from_fine_tuned(learned, damaged)
