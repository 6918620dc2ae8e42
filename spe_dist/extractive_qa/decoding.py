"""Scores of beginnings and ends → the best spans of a window, and of all windows of a question."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from data_shards.ragged import IntArray, offsets_from_lengths

_NEVER = float("-inf")


def best_spans(scores: Tensor, may: Tensor, *, max_answer: int, n_best: int) -> tuple[Tensor, Tensor, Tensor]:
    """The spans with the highest sum of scores, of all that there are.

    Args:
        scores: scores of beginning and end at each place, [S, L, 2].
        may: whether a span may begin, or end, there, bool [S, L, 2].
        max_answer: longest span.
        n_best: most spans of a sequence.

    Returns:
        Sums, best first, -inf where there are fewer spans; first places; last places: [S, n].
    """
    starts, ends = scores.masked_fill(~may, _NEVER).unbind(2)
    ends_from = nn.functional.pad(ends, (0, max_answer - 1), value=_NEVER).unfold(1, max_answer, 1)  # [S, L, longest]
    sums = (starts[:, :, None] + ends_from).flatten(1)
    best, places = sums.topk(min(n_best, sums.shape[1]), dim=1)
    first = places.div(max_answer, rounding_mode="floor")
    return best, first, first + places % max_answer


def best_of_questions(
    question: IntArray, sums: NDArray[np.floating], questions: int, n_best: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The best spans of each question among those of its windows.

    Args:
        question: question of each window, [W].
        sums: sums of each window, -inf where there is no span, [W, n].
        questions: their number, Q.
        n_best: most spans of a question.

    Returns:
        Indices into `sums`, flat, those of a question together and best first, [N]; where each question's begin,
        [Q + 1]; softmax of the sums of a question, [N].
    """
    flat, of = sums.ravel().astype(np.float64), np.repeat(question, sums.shape[1])
    order = np.lexsort((-flat, of))  # stable: of equal sums, the earlier window's comes first
    order = order[np.isfinite(flat[order])]
    first = np.searchsorted(of[order], of[order])
    order = order[np.arange(len(order)) - first < n_best]
    offsets = offsets_from_lengths(np.bincount(of[order], minlength=questions))
    best = flat[order[np.repeat(offsets[:-1], np.diff(offsets))]]
    shares = np.exp(flat[order] - best)
    totals = np.bincount(of[order], weights=shares, minlength=questions)
    return order, offsets, shares / totals[of[order]]


def most_context(question: IntArray, starts: IntArray, sizes: IntArray) -> NDArray[np.bool_]:
    """Which pieces of each window no other window of the question shows with more context on their poorer side.

    A hundredth of the window's size is added, and the first of equal windows counts: BERT's "max context".

    Args:
        question: question of each window, ascending, [W].
        starts: first piece of each window in its text, [W].
        sizes: pieces of each window, [W].

    Returns:
        Of the pieces of all windows, one window after another.
    """
    window = np.repeat(np.arange(len(sizes)), sizes)
    place = np.arange(len(window)) - np.repeat(offsets_from_lengths(sizes)[:-1], sizes)
    context = 100 * np.minimum(place, sizes[window] - 1 - place) + sizes[window]
    piece, of = starts[window] + place, question[window]
    order = np.lexsort((-context, piece, of))  # stable: of equal windows, the first comes first
    is_best = np.ones(len(order), dtype=np.bool_)
    is_best[1:] = (np.diff(piece[order]) != 0) | (np.diff(of[order]) != 0)
    found = np.empty_like(is_best)
    found[order] = is_best
    return found
