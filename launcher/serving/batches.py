"""What comes while a batch is computed is the next batch.

It is collected in the proxy, so what a call to another process costs is shared by all requests of a batch. Serve's own
`serve.batch` collects in each replica, closes a batch a fixed time after its first request and lets it wait, closed,
for the one before it: under load that is many small batches, each with the whole cost of a call and a forward.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Full(Exception):
    """Too many items wait."""


class Batches(Generic[_Item, _Result]):
    """Computes items together; each stays whole.

    Args:
        compute: as many results as items, in their order.
        size: size of an item.
        most: sum of the sizes of a batch, unless one item alone is larger.
        at_once: batches that are computed at the same time.
        wait_seconds: that an item waits for others when a batch could be computed at once.
        most_waiting: items that may wait.
        observe: called with the size of every batch.
    """

    def __init__(
        self,
        compute: Callable[[list[_Item]], Awaitable[list[_Result]]],
        size: Callable[[_Item], int],
        *,
        most: int,
        at_once: int,
        wait_seconds: float,
        most_waiting: int,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._compute, self._size, self._observe = compute, size, observe
        self._most, self._at_once, self._most_waiting = most, at_once, most_waiting
        self._wait_seconds = wait_seconds
        self._waiting: deque[tuple[_Item, asyncio.Future[_Result]]] = deque()
        self._workers: set[asyncio.Task[None] | None] = set()

    async def __call__(self, item: _Item) -> _Result:
        """The result of one item; raises what computing it raises, or Full."""
        if len(self._waiting) >= self._most_waiting:
            raise Full
        result: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, result))
        if len(self._workers) < self._at_once:
            self._workers.add(asyncio.create_task(self._work()))
        return await result

    async def _work(self) -> None:
        try:
            await asyncio.sleep(self._wait_seconds)
            while batch := self._take():
                self._observe(sum(self._size(item) for item, _ in batch))
                await self._answer(batch)
        finally:  # in the same step that saw that nothing waits: what comes from now on needs a new worker
            self._workers.remove(asyncio.current_task())

    def _take(self) -> list[tuple[_Item, asyncio.Future[_Result]]]:
        batch: list[tuple[_Item, asyncio.Future[_Result]]] = []
        size = 0
        while self._waiting:
            item, result = self._waiting[0]
            size += self._size(item)
            if batch and size > self._most:
                break
            self._waiting.popleft()
            if result.done():  # nobody waits for it any more
                size -= self._size(item)
            else:
                batch.append((item, result))
        return batch

    async def _answer(self, batch: list[tuple[_Item, asyncio.Future[_Result]]]) -> None:
        try:
            found = await self._compute([item for item, _ in batch])
        except Exception as error:
            for _, result in batch:
                if not result.done():
                    result.set_exception(error)
            return
        for (_, result), value in zip(batch, found, strict=True):
            if not result.done():
                result.set_result(value)
