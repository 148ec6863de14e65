"""The shared saga tests themselves: they pass a good saga, and find each way to write a bad one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mallee.kernel.saga import Order, Saga, Step
from tests.sagas.unwinding import (
    Scene,
    assert_steps_repeat,
    assert_survives_crash_everywhere,
    assert_unwinds_from_everywhere,
    assert_unwinds_undoing_twice,
)

Rooms = dict[str, list[str]]


class Book(Step[Rooms]):
    """Books a room once, whatever happens: the good step."""

    def __init__(self, name: str, *, final: bool = False) -> None:
        self.name = name  # type: ignore[misc]
        self.final = final  # type: ignore[misc]

    async def do(self, rooms: Rooms, /) -> Any:
        rooms[self.name] = ["guest"]
        return self.name

    async def undo(self, rooms: Rooms, done: Any, /) -> None:
        rooms.pop(self.name, None)


class Forgetful(Book):
    async def undo(self, rooms: Rooms, done: Any, /) -> None:
        """Missing."""


class OnlyIfDone(Book):
    async def undo(self, rooms: Rooms, done: Any, /) -> None:
        if done is not None:  # forgets the step that had its effect and then failed
            rooms.pop(self.name)


class UndoesOnce(Book):
    async def undo(self, rooms: Rooms, done: Any, /) -> None:
        if self.name not in rooms:
            rooms["debt"] = ["paid back twice"]
        rooms.pop(self.name, None)


class Doubles(Book):
    async def do(self, rooms: Rooms, /) -> Any:
        rooms.setdefault(self.name, []).append("guest")


class Remembers(Book):
    """Keeps what it needs in itself instead of in what it gives: lost with the process."""

    async def do(self, rooms: Rooms, /) -> Any:
        if rooms.get(self.name):
            raise LookupError("I was here")
        rooms[self.name] = ["guest"]


def scenes(*steps: Callable[..., Step[Rooms]]):
    async def fresh() -> Scene:
        rooms: Rooms = {}

        async def context(_: Order) -> Rooms:
            return rooms

        made = tuple(step(f"room-{number}") for number, step in enumerate(steps))
        return Scene(Saga("trip", 1, (*made, Book("pay", final=True), Book("tell")), context), {}, rooms)

    return fresh


async def clean(scene: Scene) -> None:
    assert scene.world == {}


async def finished(scene: Scene) -> None:
    assert scene.world == {step.name: ["guest"] for step in scene.saga.steps}


async def test_a_good_saga_passes_all() -> None:
    fresh = scenes(Book, Book, Book)
    assert await assert_unwinds_from_everywhere(fresh, clean) == 3
    assert await assert_unwinds_undoing_twice(fresh, clean) == 3
    assert await assert_steps_repeat(fresh, finished) == 5
    # 7 writes forward (beat, claim, 5 steps and their beginning), 8 backward; each before and after.
    assert await assert_survives_crash_everywhere(fresh, finished, clean) >= 24


@pytest.mark.parametrize("bad", [Forgetful, OnlyIfDone])
async def test_a_missing_undo_is_found(bad: type[Book]) -> None:
    with pytest.raises(AssertionError):
        await assert_unwinds_from_everywhere(scenes(Book, bad), clean)
    with pytest.raises(AssertionError):
        await assert_survives_crash_everywhere(scenes(Book, bad), finished, clean)


async def test_an_undo_that_cannot_be_repeated_is_found() -> None:
    await assert_unwinds_from_everywhere(scenes(UndoesOnce), clean)
    with pytest.raises(AssertionError):
        await assert_unwinds_undoing_twice(scenes(UndoesOnce), clean)
    with pytest.raises(AssertionError):
        await assert_survives_crash_everywhere(scenes(UndoesOnce), finished, clean)


@pytest.mark.parametrize("bad", [Doubles, Remembers])
async def test_a_step_that_cannot_be_repeated_is_found(bad: type[Book]) -> None:
    await assert_unwinds_from_everywhere(scenes(bad), clean)
    with pytest.raises(AssertionError):
        await assert_steps_repeat(scenes(bad), finished)
    with pytest.raises(AssertionError):
        await assert_survives_crash_everywhere(scenes(bad), finished, clean)
