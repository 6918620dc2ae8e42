"""Requests are computed together, whole, in their order, and none waits for ever."""

import asyncio

import pytest

from launcher.serving.batches import Batches, Full


def batches(compute, **more) -> Batches[list[int], int]:
    given = {"most": 4, "at_once": 1, "wait_seconds": 0.0, "most_waiting": 100} | more
    return Batches(compute, len, **given)


def test_what_comes_meanwhile_is_the_next_batch():
    computed, sizes = [], []

    async def compute(items):
        computed.append(items)
        await asyncio.sleep(0.01)
        return [sum(item) for item in items]

    async def run():
        together = batches(compute, observe=sizes.append)
        first = asyncio.create_task(together([1]))
        await asyncio.sleep(0.005)
        rest = [[2], [3, 4], [5], [6] * 9, [], [7]]
        return await asyncio.gather(first, *map(together, rest))

    assert asyncio.run(run()) == [1, 2, 7, 5, 54, 0, 7]
    assert computed == [[[1]], [[2], [3, 4], [5]], [[6] * 9], [[], [7]]]
    assert sizes == [1, 4, 9, 1]


def test_as_many_batches_at_once_as_asked_for():
    now, most = 0, 0

    async def compute(items):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.005)
        now -= 1
        return [0] * len(items)

    async def run():
        together = batches(compute, at_once=3, most=1)
        await asyncio.gather(*(together([1]) for _ in range(20)))

    asyncio.run(run())
    assert most == 3


def test_failures_full_queues_and_clients_that_left():
    computed = []

    async def compute(items):
        computed.extend(items)
        await asyncio.sleep(0.01)
        if [0] in items:
            raise ZeroDivisionError
        return [1] * len(items)

    async def run():
        together = batches(compute, most=1, most_waiting=2)
        failing = asyncio.create_task(together([0]))
        await asyncio.sleep(0.005)
        left, staying = asyncio.create_task(together([1])), asyncio.create_task(together([2]))
        await asyncio.sleep(0)
        with pytest.raises(Full):
            await together([3])
        left.cancel()
        with pytest.raises(ZeroDivisionError):
            await failing
        assert await staying == await together([4]) == 1

    asyncio.run(run())
    assert computed == [[0], [2], [4]]
