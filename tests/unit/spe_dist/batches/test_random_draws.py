import numpy as np

from spe_dist.batches.random_draws import RandomDraws

LANE_SIZE = 3
WORDS = {lane: np.random.default_rng(lane).integers(2, 9, LANE_SIZE) for lane in range(6)}


def draw(lanes, *, seed=1, step=2):
    num_words = np.concatenate([np.zeros(0, dtype=int), *(WORDS[lane] for lane in lanes)])
    draws = RandomDraws.draw(seed=seed, step=step, lanes=lanes, lane_size=LANE_SIZE, num_words=num_words, columns=4)
    return draws.per_record.tolist(), draws.per_word.tolist()


def test_the_numbers_of_a_lane_do_not_depend_on_which_lanes_are_fused():
    alone = {lane: draw([lane]) for lane in range(6)}
    for lanes in ([0, 1, 2, 3, 4, 5], [4, 5], [2], [5, 0, 3]):
        per_record, per_word = draw(lanes)
        assert per_record == [row for lane in lanes for row in alone[lane][0]]
        assert per_word == [number for lane in lanes for number in alone[lane][1]]


def test_another_seed_step_or_lane_gives_other_numbers_and_the_same_the_same():
    assert draw([0]) == draw([0])
    everything = [draw([lane], seed=seed, step=step)[0] for seed in range(3) for step in range(3) for lane in range(3)]
    numbers = [number for rows in everything for row in rows for number in row]
    assert len(set(numbers)) == len(numbers) == 27 * LANE_SIZE * 4


def test_numbers_per_record_do_not_depend_on_the_words():
    longer = RandomDraws.draw(
        seed=1, step=2, lanes=[0], lane_size=LANE_SIZE, num_words=WORDS[0] + 5, columns=4
    ).per_record
    assert longer.tolist() == draw([0])[0]


def test_no_lanes_no_numbers():
    assert draw([]) == ([], [])
