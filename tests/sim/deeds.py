"""The things that somebody may do, each a function; its weight is how often it is chosen.

A schedule takes some of them and not others, so that rare things meet often somewhere.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from tests.sim.users import User

Deed = Callable[[User], Awaitable[None]]


class Choice(NamedTuple):
    deed: Deed
    weight: float
    admin: bool = False


DEEDS: dict[str, Choice] = {}


def deed(weight: float, *, admin: bool = False) -> Callable[[Deed], Deed]:
    def register(work: Deed) -> Deed:
        DEEDS[work.__name__] = Choice(work, weight, admin)
        return work

    return register


def chosen(chance: random.Random, *, admin: bool) -> list[Choice]:
    """What one user of one schedule does at all."""
    able = [each for each in DEEDS.values() if admin or not each.admin]
    some = [each for each in able if chance.random() < 0.6]
    return [DEEDS["launch"], *([DEEDS["migrate"]] if admin else ()), *some]
