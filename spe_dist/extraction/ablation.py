"""The ablations of the SPE paper (Tables 4 and 6): the runs of each variant, and the table of scores.

A variant differs from the full method in one thing. Variants with the same pre-training share it. PURE, but for the
files that scores are read from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic.dataclasses import dataclass as checked_dataclass

from data_shards.errors import UserError
from spe_dist.config import STRICT
from spe_dist.export.export_format import Weights
from spe_dist.extraction.config import ExtractionConfig
from spe_dist.extraction.scores.joint_scoring import JointScoring
from spe_dist.extraction.scores.scoring import MEASURES
from spe_dist.finetuning.bootstrap import RESAMPLES, Estimate, PairedTest, few_seeds_note, holm
from spe_dist.finetuning.config import BERT
from spe_dist.finetuning.predictions import read_run
from spe_dist.finetuning.scored_run import ScoredRun, compare_scored_runs, score_run
from spe_dist.methods.spe.config import SpeConfig
from spe_dist.recipe import checked_config, config_values, read_values
from spe_dist.text_table import markdown_table
from spe_dist.versions import package_versions, this_machine

VariantName = Literal["full", "no_tbo", "no_spo", "no_cspo", "no_cnn", "no_head", "momentum", "none"]
FULL: VariantName = "full"
SCORING = JointScoring()


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    Args:
        title: what differs, in the paper's words.
        pretrain: settings of pre-training that differ from the full method's; None: there is none.
        finetune: settings of fine-tuning that differ.
        weights: of the run, what fine-tuning starts from.
        paper: relation F1 and strict relation F1 in the paper, in percent: ACE05, BERT-base, one run each.
    """

    title: str
    pretrain: Mapping[str, Any] | None
    finetune: Mapping[str, Any]
    weights: Weights
    paper: tuple[float, float]


VARIANTS: dict[VariantName, Variant] = {
    "full": Variant("SPE", {}, {}, "query", (66.7, 63.2)),
    "no_tbo": Variant("- TBO", {"tbo": {"weight": 0.0}}, {}, "query", (63.7, 61.2)),
    "no_spo": Variant("- SPO", {"spo": {"weight": 0.0}}, {}, "query", (64.4, 61.1)),
    "no_cspo": Variant("- CSPO", {"cspo": {"weight": 0.0}}, {}, "query", (64.5, 61.4)),
    "no_cnn": Variant("- CNN", {}, {"start": {"no_cnn": True}}, "query", (64.6, 61.2)),
    "no_head": Variant("no MLP head", {"cspo": {"head": False}}, {}, "query", (65.1, 61.9)),
    "momentum": Variant("momentum encoder", {}, {}, "momentum", (65.4, 61.7)),
    "none": Variant("no pre-training (BERT)", None, {}, "query", (65.4, 61.7)),
}


@checked_dataclass(frozen=True, kw_only=True, config=STRICT)
class AblationRunConfig:
    """Name and folder of the ablations."""

    name: str
    """Name of the ablations and of their folder in `folder`. Starting the same name again resumes."""
    folder: str
    """Folder of runs."""


@checked_dataclass(frozen=True, kw_only=True, config=STRICT)
class AblationConfig:
    """What all variants share. Names and folders of their runs, and what they start from, follow from the variant."""

    run: AblationRunConfig
    variants: tuple[VariantName, ...]
    pretrain: SpeConfig
    finetune: ExtractionConfig

    @property
    def folder(self) -> Path:
        """Folder of all variants."""
        return Path(self.run.folder) / self.run.name


def read_ablation(path: Path) -> AblationConfig:
    """Read a recipe: `run`, `variants`, and under `pretrain` and `finetune` a recipe of each.

    Raises:
        UserError: it cannot be read, or a key or value is not allowed.
    """
    values = read_values(path)
    for part in ("pretrain", "finetune"):
        if isinstance(values.get(part), dict):  # what each variant sets itself; only the seed is for the recipe to say
            places = {"name": "", "folder": "", "seed": 1}
            values[part] = values[part] | {"run": places | values[part].get("run", {})}
    if isinstance(values.get("finetune"), dict):
        values["finetune"].setdefault("start", {"pretrained": BERT})
    return checked_config(AblationConfig, values, source=str(path))


def pretraining(config: AblationConfig, name: VariantName) -> SpeConfig | None:
    """The pre-training of a variant, which it may share with one before it; None if it has none."""
    settings = VARIANTS[name].pretrain
    if settings is None:
        return None
    owner = next(other for other, variant in VARIANTS.items() if variant.pretrain == settings)
    run = {"run": {"name": owner, "folder": str(config.folder / "pretrain")}}
    return checked_config(SpeConfig, _merged(config_values(config.pretrain), settings, run), source=name)


def finetuning(config: AblationConfig, name: VariantName) -> ExtractionConfig:
    """The fine-tuning of a variant."""
    run = {"run": {"name": name, "folder": str(config.folder / "finetune")}}
    before = pretraining(config, name)
    start = {"start": {"pretrained": BERT} if before is None else {"pretrained": str(_weights_folder(config, name))}}
    if before is None and config.pretrain.encoder.name_or_path is None and config.finetune.start.tokenizer is None:
        start["start"]["tokenizer"] = f"{config.pretrain.data.shards}/tokenizer"
    ours, theirs = config_values(config.finetune.encoder), config_values(config.pretrain.encoder)
    sizes = {"encoder": {key: theirs[key] for key in theirs if not key.endswith("dropout")} | _dropouts(ours)}
    heads = {
        "model": {
            "span_encoder": config_values(config.pretrain.span_encoder),
            "attention": config_values(config.pretrain.pair_encoder),
        }
    }
    values = _merged(config_values(config.finetune), run, start, sizes, heads, VARIANTS[name].finetune)
    return checked_config(ExtractionConfig, values, source=name)


def _weights_folder(config: AblationConfig, name: VariantName) -> Path:
    before = pretraining(config, name)
    assert before is not None
    run = Path(before.run_folder)
    return run if VARIANTS[name].weights == "query" else run / VARIANTS[name].weights


@dataclass(frozen=True)
class Row:
    """A variant's scores.

    Args:
        name: of the variant.
        title: what differs.
        seeds: that were fine-tuned.
        micro_f1: measure → mean over seeds and interval, in 0..1.
        minus_full: measure → how it differs from the full method; empty if that is not there.
        paper: relation F1 and strict relation F1, in percent.
    """

    name: VariantName
    title: str
    seeds: tuple[int, ...]
    micro_f1: dict[str, Estimate]
    minus_full: dict[str, PairedTest]
    paper: tuple[float, float]


def score_ablations(config: AblationConfig, names: Sequence[VariantName], *, resamples: int = RESAMPLES) -> list[Row]:
    """Score variants whose fine-tunings are over.

    Args:
        config: of the ablations.
        names: of the variants.
        resamples: of the bootstrap.

    Raises:
        UserError: a variant has no predictions of the test data.
    """
    scored: dict[VariantName, ScoredRun] = {}
    for name in names:
        scored[name] = score_run(
            SCORING, read_run(SCORING, Path(finetuning(config, name).run_folder)), resamples=resamples
        )
    full = scored.get(FULL)
    return [
        Row(
            name,
            VARIANTS[name].title,
            run.seeds,
            run.estimates,
            {} if full is None or name == FULL else compare_scored_runs(full, run, resamples=resamples),
            VARIANTS[name].paper,
        )
        for name, run in scored.items()
    ]


def ablation_table(rows: Sequence[Row], about: str) -> str:
    """The table in Markdown, which is readable as text too.

    Args:
        rows: one for each variant.
        about: sizes of what was done, for the line above the table.
    """
    header = ["variant"]
    for measure in MEASURES:
        header += [measure, "- SPE"]
    header += ["p (strict)", "p (Holm)", "paper: relation / strict", "- SPE"]
    corrected = _corrected(rows)
    notes = [f"Holm: p corrected for {len(corrected)} comparisons with {VARIANTS[FULL].title}."] if corrected else []
    notes += filter(None, map(few_seeds_note, sorted({len(row.seeds) for row in rows})))
    table = markdown_table(header, [_cells(row, corrected) for row in rows])
    return f"{about}\n\n{table}\n" + "".join(f"\n{note}\n" for note in notes)


def ablation_json(rows: Sequence[Row], about: str) -> dict[str, Any]:
    """The same for programs, and what it was made with; scores as fractions of 1, the paper's in percent as printed."""
    made_with = {"machine": this_machine(), "packages": package_versions()}
    corrected = _corrected(rows)
    written = [asdict(row) | {"p_strict_holm": corrected.get(row.name)} for row in rows]
    return {"about": about, **made_with, "rows": written}


def _corrected(rows: Sequence[Row]) -> dict[VariantName, float]:
    """P-values of the strict F1, corrected for the number of variants that are compared with the full method."""
    compared = {row.name: test.p_value for row in rows if (test := row.minus_full.get("relation_strict_f1"))}
    return dict(zip(compared, holm(list(compared.values())), strict=True))


def _cells(row: Row, corrected: Mapping[VariantName, float]) -> list[str]:
    cells = [row.title]
    for measure in MEASURES:
        estimate = row.micro_f1[measure]
        deviation = "" if estimate.deviation is None else f" ± {100 * estimate.deviation:.1f}"
        cells.append(f"{100 * estimate.mean:.1f}{deviation}")
        cells.append(_difference(row.minus_full.get(measure)))
    strict = row.minus_full.get("relation_strict_f1")
    full = VARIANTS[FULL].paper
    theirs = [f"{ours - reference:+.1f}" for ours, reference in zip(row.paper, full, strict=True)]
    cells += ["", ""] if strict is None else [f"{strict.p_value:.3f}", f"{corrected[row.name]:.3f}"]
    cells += [f"{row.paper[0]:.1f} / {row.paper[1]:.1f}"]
    return [*cells, "" if row.name == FULL else " / ".join(theirs)]


def _difference(test: PairedTest | None) -> str:
    if test is None:
        return ""
    difference = test.difference
    return f"{100 * difference.mean:+.1f} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"


def _merged(values: dict[str, Any], *changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings with others in their place, two levels deep as recipes are."""
    for change in changes:
        values = values | {section: values[section] | settings for section, settings in change.items()}
    return values


def _dropouts(encoder: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in encoder.items() if key.endswith("dropout")}


def describe_sizes(config: AblationConfig, *, train_sentences: int, test_sentences: int, seeds: int) -> str:
    """What was done, in one line: reduced sizes must be seen where their scores are.

    Args:
        config: of the ablations.
        train_sentences: that were learned from.
        test_sentences: that were scored.
        seeds: of each fine-tuning.
    """
    pretrain = config.pretrain
    encoder, batch = pretrain.encoder, pretrain.batch.lanes * pretrain.batch.lane_size
    name = encoder.name_or_path or f"new, {encoder.layers} layers of {encoder.hidden_size}"
    return (
        f"Pre-training: {pretrain.train.steps:,} steps of {batch} records ({pretrain.train.steps * batch:,}; paper: "
        f"40,000 of 256) of {Path(pretrain.data.shards).name}; encoder: {name} (paper: BERT-base). Fine-tuning: "
        f"{train_sentences:,} sentences of {Path(config.finetune.data.train).name}, "
        f"{seeds} {'seed' if seeds == 1 else 'seeds'}, "
        f"at most {config.finetune.train.epochs} epochs; test: {test_sentences:,} sentences. F1 in percent, mean ± "
        "deviation over seeds; differences with 95 % intervals; p of the difference in strict relation F1. The paper's "
        "figures are of ACE05, one run each."
    )


def check_variants(names: Sequence[VariantName]) -> None:
    """Raise a UserError unless each variant is named once."""
    if not names or len(set(names)) < len(names):
        raise UserError(f"variants are {', '.join(names) or 'none'}: name each once; there are {', '.join(VARIANTS)}")
