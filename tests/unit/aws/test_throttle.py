from mallee.aws import throttle
from mallee.aws.errors import AwsError
from mallee.aws.throttle import Limit, Limits, ResourceLimit, Throttle
from mallee.kernel.clock import ManualClock

LIMITS = Limits(
    reading=Limit(100, 20),
    changing=Limit(50, 5),
    actions={"RunInstances": Limit(5, 2)},
    resources={"RunInstances": ResourceLimit(Limit(1000, 2), "MaxCount")},
)


def passed(take, times) -> int:
    """How many of so many tries were let through."""
    good = 0
    for _ in range(times):
        try:
            take()
        except AwsError as error:
            assert (error.code, error.status) == ("RequestLimitExceeded", 503)  # noqa: PT017 - counted, not expected
        else:
            good += 1
    return good


async def test_a_bucket_is_exact_at_its_edges() -> None:
    clock = ManualClock()
    buckets = Throttle(LIMITS, clock)

    def read():
        buckets.request("1", "DescribeInstances", mutating=False)

    assert passed(read, 150) == 100
    await clock.advance(0.05)
    assert passed(read, 5) == 1
    await clock.advance(0.049)
    assert passed(read, 5) == 0
    await clock.advance(0.001)
    assert passed(read, 5) == 1
    await clock.advance(3600)
    assert passed(read, 150) == 100  # never above its size


async def test_a_steady_flow_at_the_refill_is_never_refused() -> None:
    clock = ManualClock()
    buckets = Throttle(LIMITS, clock)
    assert passed(lambda: buckets.request("1", "StopInstances", mutating=True), 60) == 50
    for _ in range(100):
        await clock.advance(0.2)
        assert passed(lambda: buckets.request("1", "StopInstances", mutating=True), 2) == 1


async def test_each_account_and_action_has_its_own() -> None:
    buckets = Throttle(LIMITS, ManualClock())
    for account, action in (("1", "RunInstances"), ("2", "RunInstances")):
        assert passed(lambda who=account, what=action: buckets.request(who, what, mutating=True), 9) == 5
    assert passed(lambda: buckets.request("1", "StopInstances", mutating=True), 60) == 50


async def test_resources_in_any_split() -> None:
    clock = ManualClock()
    buckets = Throttle(LIMITS, clock)

    def run(count):
        return passed(lambda: buckets.resources("1", "RunInstances", {"MaxCount": count}), 1)

    assert [run(600), run(401), run(400), run(1)] == [1, 0, 1, 0]
    await clock.advance(1.5)
    assert [run(4), run(3), run(1)] == [0, 1, 0]
    assert run(10**12) == 0
    assert passed(lambda: buckets.resources("1", "StopInstances", {"MaxCount": 9}), 1) == 1


async def test_nothing_is_limited_unless_configured() -> None:
    buckets = Throttle(Limits(), ManualClock())
    assert passed(lambda: buckets.request("1", "RunInstances", mutating=True), 5000) == 5000


async def test_memory_is_bounded(monkeypatch) -> None:
    monkeypatch.setattr(throttle, "_MOST_BUCKETS", 10)
    clock = ManualClock()
    buckets = Throttle(LIMITS, clock)
    for n in range(100):
        buckets.request(str(n), "StopInstances", mutating=True)
        await clock.advance(0.01)
    assert len(buckets._full_at) <= 10
    assert passed(lambda: buckets.request("99", "StopInstances", mutating=True), 51) <= 50
