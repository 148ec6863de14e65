"""On PostgreSQL what is read is also rendered in its threads: several at once, the first of all included."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from mallee.aws import model
from mallee.aws.protocol import Fragment, Protocol
from mallee.clc.rendered import Rendered

THREADS = 8


@pytest.fixture(autouse=True)
def _often() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_the_first_rendering_is_right_in_every_thread() -> None:
    instance = {
        "InstanceId": "i-1",
        "Placement": {"AvailabilityZone": "a"},
        "Tags": [{"Key": "k", "Value": "v"}],
    }
    right = Protocol(model.load("ec2")).fragment("DescribeInstances", "Reservations.Instances", instance)
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(5):
            wire, together = Protocol(model.load("ec2")), Barrier(THREADS)

            def render(_: int, wire: Protocol = wire, together: Barrier = together) -> Fragment:
                together.wait()
                return wire.fragment("DescribeInstances", "Reservations.Instances", instance)

            assert set(pool.map(render, range(THREADS))) == {right}


def test_what_is_kept_can_be_asked_for_while_it_is_renewed() -> None:
    kept, text, together = Rendered(10_000), Fragment(b"<item>" + b"x" * 500), Barrier(THREADS)
    keys = [f"i-{number}" for number in range(12)]

    def use(number: int) -> None:
        together.wait()
        for turn in range(1000):
            kept.get_all(dict.fromkeys(keys, 1))
            kept.put(keys[(number + turn) % len(keys)], 1, text)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(use, range(THREADS)))
    assert kept.bytes == len(kept._kept) * (len(text) + 400)
