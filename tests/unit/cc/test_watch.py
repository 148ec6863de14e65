"""A watcher hears everything once, then what changes; only what is durable; and a slow one hears less, not wrongly."""

import asyncio

import pytest

from mallee.cc.convergence import GuestFact
from mallee.cc.watch import CHUNK, News
from mallee.domain.guest import Cause, Phase, Power, Resources
from mallee.kernel.errors import Fault, Kind
from tests.unit.cc.a_zone import AZone


class Listener:
    """A watcher that reads as fast as it can, or when it is told to."""

    def __init__(self, zone: AZone) -> None:
        self._zone = zone
        self._news = zone.cc.watch.follow()

    async def next(self) -> News:
        waiting = asyncio.ensure_future(anext(self._news))
        await self._zone.until(waiting.done, step=0.01)
        return waiting.result()

    async def snapshot(self) -> list[News]:
        parts = [await self.next()]
        while not parts[-1].snapshot_end:
            parts.append(await self.next())
        return parts

    async def facts(self) -> News:
        while not (news := await self.next()).facts:
            pass
        return news

    async def close(self) -> None:
        await self._news.aclose()


async def test_a_snapshot_comes_in_chunks_and_ends_with_the_zone(zone: AZone) -> None:
    await zone.join("n1", Resources(5000, 5_000_000))
    names = [f"i-{n}" for n in range(2 * CHUNK + 5)]
    await zone.place(*names)
    listener = Listener(zone)
    parts = await listener.snapshot()
    assert sum(len(part.facts) for part in parts) == 0  # mere claims are nobody's business
    for name in names:
        zone.cc.ledger.placements.put(name, zone.cc.ledger.placements.rows[name]._replace(revision=1))
    await zone.cc.ledger.journal.commit()
    again = Listener(zone)
    parts = await again.snapshot()
    assert [len(part.facts) for part in parts] == [CHUNK, CHUNK, 5, 0]
    assert parts[-1].zone is not None
    assert parts[-1].zone.nodes_ready == 1
    await listener.close()
    await again.close()


async def test_changes_are_gathered_and_each_watcher_hears_them(zone: AZone) -> None:
    await zone.join("n1")
    first, second = Listener(zone), Listener(zone)
    await first.snapshot()
    await second.snapshot()
    await zone.run("i-1")
    await zone.run("i-2")
    for listener in (first, second):
        news = await listener.facts()
        assert {(fact.instance_id, fact.phase) for fact in news.facts} == {
            ("i-1", Phase.RUNNING),
            ("i-2", Phase.RUNNING),
        }
        await listener.close()


async def test_a_slow_watcher_hears_of_the_latest_only(zone: AZone) -> None:
    await zone.join("n1")
    slow = Listener(zone)
    await slow.snapshot()
    await zone.run("i-1")
    await zone.wish("i-1", 2, Power.STOPPED)
    await zone.obey()
    await zone.wish("i-1", 3, Power.TERMINATED)
    news = await slow.facts()
    assert [(fact.instance_id, fact.revision, fact.phase) for fact in news.facts] == [
        ("i-1", 3, Phase.TERMINATED)
    ]
    await slow.close()


async def test_nobody_hears_of_what_is_not_durable(zone: AZone) -> None:
    await zone.join("n1")
    await zone.run("i-1")
    row = zone.cc.ledger.placements.rows["i-1"]
    zone.cc.ledger.placements.put("i-1", row._replace(revision=9))
    fact = zone.cc.watch.fact("i-1")
    assert fact is not None
    assert fact.revision == 1
    await zone.cc.ledger.journal.commit()
    fact = zone.cc.watch.fact("i-1")
    assert fact is not None
    assert fact.revision == 9


async def test_a_change_of_reachability_is_news(zone: AZone) -> None:
    node = await zone.join("n1")
    await zone.run("i-1")
    listener = Listener(zone)
    await listener.snapshot()
    await zone.pass_time(11)
    news = await listener.facts()
    assert [fact.reachable for fact in news.facts] == [False]
    await zone.dial(node)
    news = await listener.facts()
    assert [fact.reachable for fact in news.facts] == [True]
    await listener.close()


async def test_a_return_that_could_not_be_written_is_untold(
    zone: AZone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it was being written the node counted as back, and who looked then was told so for good."""
    node = await zone.join("n1")
    await zone.run("i-1")
    await zone.pass_time(12)
    listener, full = Listener(zone), asyncio.Event()
    await listener.snapshot()

    async def transact(_work: object) -> None:
        await full.wait()
        raise Fault(Kind.UNAVAILABLE, "The disk is full.")

    monkeypatch.setattr(zone.cc.ledger.db, "transact", transact)
    dialling = asyncio.ensure_future(zone.dial(node))
    await zone.clock.settle()
    zone.cc.watch.touch(["i-1"])
    assert [fact.reachable for fact in (await listener.facts()).facts] == [True]
    full.set()
    assert [fact.reachable for fact in (await listener.facts()).facts] == [False]
    with pytest.raises(Fault):
        await dialling
    await listener.close()


async def test_the_zone_is_told_at_most_twice_a_second(zone: AZone) -> None:
    node = await zone.join("n1", Resources(100, 102_400))
    listener = Listener(zone)
    await listener.snapshot()
    heard: list[News] = []

    async def listen() -> None:
        async for news in listener._news:
            heard.append(news)  # noqa: PERF401 - to be read while it grows

    listening = asyncio.create_task(listen())
    for number in range(30):
        await zone.renew(node)
        await zone.place(f"i-{number}")
        await zone.clock.advance(0.1)
    await zone.clock.advance(1)
    zones = [news.zone for news in heard if news.zone is not None]
    assert 4 <= len(zones) <= 8
    assert zones[-1].free == Resources(70, 102_400 - 30 * 1024)
    listening.cancel()
    await asyncio.wait((listening,))
    await listener.close()


async def test_a_restart_is_no_news_of_what_goes_on(zone: AZone) -> None:
    node = await zone.join("n1")
    await zone.run("i-1")
    await zone.clock.advance(3)  # its phase is written
    await zone.restart()
    listener = Listener(zone)
    assert [fact.phase for part in await listener.snapshot() for fact in part.facts] == [Phase.RUNNING]
    await zone.dial(node)
    await zone.run("i-2")
    assert [fact.instance_id for fact in (await listener.facts()).facts] == ["i-2"]
    await listener.close()


async def test_a_guest_that_stands_still_for_its_disk_does_not_answer(zone: AZone) -> None:
    await zone.join("n1")
    await zone.run("i-1")
    waits = Cause("disk-failed", "The node's disk may be full.")
    for phase, cause, answers in ((Phase.PAUSED, waits, False), (Phase.RUNNING, None, True)):
        fact = GuestFact("i-1", 1, 1, phase, Resources(1, 1024), cause)
        await zone.cc.convergence.learn(0, [fact])
        seen = zone.cc.watch.fact("i-1")
        assert seen is not None
        assert (seen.phase, seen.reachable, seen.cause) == (phase, answers, cause)
