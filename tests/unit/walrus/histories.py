"""Is a history of concurrent calls on one key linearizable?

Wing and Gong's search ("Testing and Verifying Concurrent Objects", 1993) with Lowe's memory of what was
tried: find an order of the calls, each at one moment between its beginning and its end, in which every
answer is right. A call without an end (its caller never heard) may have happened at any later moment,
or never.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

_NEVER = float("inf")


class Call(NamedTuple):
    """A call as its caller saw it. `ended` is None when it never heard the answer."""

    began: int
    ended: int | None
    name: str
    argument: Any
    answer: Any


# (state, name, argument) -> (answer, state afterwards)
Apply = Callable[[Any, str, Any], tuple[Any, Any]]


def is_linearizable(history: Sequence[Call], apply: Apply, initial: Any) -> bool:
    """Whether an order exists; `initial` is the state before all calls, states must be hashable."""
    calls = sorted(history, key=lambda call: call.began)
    must = frozenset(index for index, call in enumerate(calls) if call.ended is not None)
    tried: set[tuple[frozenset[int], Any]] = set()
    stack: list[tuple[frozenset[int], Any]] = [(frozenset(), initial)]
    while stack:
        placed, state = stack.pop()
        if (placed, state) in tried:
            continue
        tried.add((placed, state))
        if must <= placed:
            return True
        # A call may come next unless another one that is not placed yet had ended before it began.
        left = [index for index in range(len(calls)) if index not in placed]
        deadline = min((end for index in left if (end := calls[index].ended) is not None), default=None)
        able: list[tuple[float, int, Any]] = []
        lost: set[tuple[str, Any]] = set()
        for index in left:
            call = calls[index]
            if deadline is not None and call.began > deadline:
                break
            answer, after = apply(state, call.name, call.argument)
            if call.ended is not None:
                if answer == call.answer:
                    able.append((call.ended, index, after))
            # One that nobody heard of need not have happened; of several alike the first will do.
            elif after != state and (call.name, call.argument) not in lost:
                lost.add((call.name, call.argument))
                able.append((_NEVER, index, after))
        # What ended first most likely came first, and what nobody heard of did not happen.
        for _, index, after in sorted(able, key=lambda each: each[:2], reverse=True):
            stack.append((placed | {index}, after))
    return False
