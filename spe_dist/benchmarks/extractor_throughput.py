"""How fast an extractor reads raw text, and whether its memory stays flat."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import psutil

from data_shards.errors import UserError
from spe_dist.benchmarks.timing import Timed
from spe_dist.extraction.predict.cut_texts import Text
from spe_dist.extraction.predict.extractor import Extractor, Precision
from spe_dist.models.exported_encoders import is_exported

_WARM_UP_TEXTS = 200
_MIB = 1 << 20


def measure_prediction(
    folder: Path,
    texts: Callable[[], Iterable[Text]],
    *,
    sentences: int,
    precisions: Sequence[Precision],
    batch_size: int,
    device: str | None,
    repeats: int,
) -> list[Timed]:
    """Stream texts through an extractor: seconds, sentences per second, and the process's memory on the way.

    Reading and splitting the texts counts, loading the model does not.

    Args:
        folder: folder of the extractor.
        texts: begins to read them again at every call.
        sentences: sentences of a repeat; the text that holds the last one is finished.
        precisions: to measure, one after another; if none is given, both, or that of an export.
        batch_size: most sentences of a forward.
        device: to compute on; as `Extractor` chooses if not given.
        repeats: of each.

    Raises:
        UserError: there are fewer sentences.
    """
    measured = []
    for precision in precisions or ((None,) if is_exported(folder) else ("bf16", "fp32")):
        extractor = Extractor.from_pretrained(folder, device=device, precision=precision, batch_size=batch_size)
        for _ in zip(range(_WARM_UP_TEXTS), extractor.stream(texts()), strict=False):
            pass
        backend = extractor.precision if extractor.backend == "torch" else extractor.backend
        timed = Timed("predict", f"{backend} on {extractor.device}, batches of {batch_size}", [])
        runs = [_stream(extractor, texts(), sentences, timed.seconds) for _ in range(repeats)]
        early, most = runs[-1]
        timed.notes.update({"sentences": sentences, "sentences/s": sentences / timed.median})
        timed.notes.update({"MiB after a tenth": early, "MiB at most": most})
        measured.append(timed)
    return measured


def _stream(extractor: Extractor, texts: Iterable[Text], sentences: int, seconds: list[float]) -> tuple[float, float]:
    """Add the seconds that these sentences take; the memory of the process, early and at most, in MiB."""
    process = psutil.Process()
    early = most = 0.0
    read = 0
    began = time.perf_counter()
    for found in extractor.stream(texts):
        before, read = read, read + len(found.sentences)
        if read // 1000 > before // 1000:  # asking takes time, too
            most = max(most, process.memory_info().rss / _MIB)
            early = early if read > sentences / 10 and early else most
        if read >= sentences:
            seconds.append((time.perf_counter() - began) * sentences / read)
            return early, most
    raise UserError(
        f"the texts have {read:,} sentences, fewer than {sentences:,}: give more text or a smaller --sentences"
    )
