import numpy as np

from spe_dist.methods.spe.random_draws import RandomDraws

LANE_SIZE = 3
WORDS = {lane: np.random.default_rng(lane).integers(2, 9, LANE_SIZE) for lane in range(6)}


def draw(lanes, *, seed=1, step=2, more_words=0, permutation_columns=4):
    num_words = np.concatenate([np.zeros(0, dtype=int), *(WORDS[lane] + more_words for lane in lanes)])
    draws = RandomDraws.draw(
        seed=seed,
        step=step,
        lanes=lanes,
        lane_size=LANE_SIZE,
        num_words=num_words,
        span_columns=2,
        permutation_columns=permutation_columns,
    )
    return draws.spans.tolist(), draws.words.tolist(), draws.permutations.tolist()


def test_the_numbers_of_a_lane_do_not_depend_on_which_lanes_are_fused():
    alone = {lane: draw([lane]) for lane in range(6)}
    for lanes in ([0, 1, 2, 3, 4, 5], [4, 5], [2], [5, 0, 3]):
        for purpose, numbers in enumerate(draw(lanes)):
            assert numbers == [row for lane in lanes for row in alone[lane][purpose]]


def test_another_seed_step_or_lane_gives_other_numbers_and_the_same_the_same():
    assert draw([0]) == draw([0])
    everything = [draw([lane], seed=seed, step=step)[0] for seed in range(3) for step in range(3) for lane in range(3)]
    numbers = [number for rows in everything for row in rows for number in row]
    assert len(set(numbers)) == len(numbers) == 27 * LANE_SIZE * 2


def test_spans_do_not_depend_on_the_words():
    assert draw([0], more_words=5)[0] == draw([0])[0]


def test_without_permutations_spans_and_masks_stay_the_same():
    """So that an ablation of SPO compares runs on the same spans and masks."""
    assert draw([0, 3], permutation_columns=0)[:2] == draw([0, 3])[:2]


def test_no_lanes_no_numbers():
    assert draw([]) == ([], [], [])
