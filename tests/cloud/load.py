"""Users that never stop: each launches, looks from elsewhere, repeats itself and ends what it launched.

Whatever dies meanwhile, each goes on until it has an answer. What was acknowledged is remembered, and every
answer is compared with it at once: the first that does not fit is a lie.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from threading import Event, Lock
from types import TracebackType
from typing import Any, Self

from botocore.exceptions import BotoCoreError, ClientError

from mallee.kernel.clock import SystemClock
from tests.acceptance.containers import until
from tests.cloud.clouds import INSTANCE_TYPE

PASSING = {"Unavailable", "InsufficientInstanceCapacity"}  # the second: its nodes are on their way back
PATIENCE = 60.0  # seconds that a user tries the same thing
LARGEST = 40  # instances that a user keeps at most


@dataclass
class Load(AbstractContextManager["Load"]):
    """The users of `clients`, who each use them in turn.

    Attributes:
        kept, ended: instances that were acknowledged to be, and to have been terminated.
        answers: what came of the calls, counted: `fine`, or an error's code.
        lies: what did not fit to what had been answered before.
    """

    clients: Sequence[Any]
    image: str
    users: int = 6
    kept: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    answers: Counter[str] = field(default_factory=Counter)
    lies: list[str] = field(default_factory=list)
    rounds: int = 0
    _over: Event = field(default_factory=Event)
    _lock: Lock = field(default_factory=Lock)
    _clock: SystemClock = field(default_factory=SystemClock)
    _tasks: list[Future[None]] = field(default_factory=list)
    _pool: ThreadPoolExecutor = field(init=False)

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(self.users)
        self._tasks = [self._pool.submit(self._use, number) for number in range(self.users)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._pool.shutdown()
        if error is None:
            for task in self._tasks:
                task.result()

    async def more(self, rounds: int, what: str, seconds: float = 60.0) -> None:
        """Return when the users have got through so many rounds more."""
        wanted = self.rounds + rounds

        def reached() -> bool:
            for task in self._tasks:
                if task.done():
                    task.result()
            return self.rounds >= wanted

        await until(reached, f"{what}: {rounds} rounds more", seconds)

    def _use(self, number: int) -> None:
        turn = number
        mine: list[str] = []
        while not self._over.is_set():
            turn += 1
            here, there = (self.clients[(turn + k) % len(self.clients)] for k in (0, 1))
            (instance,) = self._launch(here, there, f"load-{number}-{turn}-{id(self)}")
            mine.append(instance)
            with self._lock:
                self.kept.add(instance)
            if len(mine) > LARGEST // self.users or turn % 3 == 0:
                self._end(here, there, mine.pop(0))
            with self._lock:
                self.rounds += 1

    def _launch(self, here: Any, there: Any, token: str) -> list[str]:
        """One token, said at one controller and again at the other."""

        def run(client: Any) -> list[str]:
            made = client.run_instances(
                ImageId=self.image,
                InstanceType=INSTANCE_TYPE,
                MinCount=1,
                MaxCount=1,
                ClientToken=token,
                TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "token", "Value": token}]}],
            )
            return [each["InstanceId"] for each in made["Instances"]]

        first = self._sure(lambda turn: run((here, there)[turn % 2]))
        again = self._sure(lambda turn: run((there, here)[turn % 2]))
        self._true(first == again, f"token {token} gave {first}, then {again}")
        seen = self._sure(lambda turn: _states((there, here)[turn % 2], first))
        self._true(set(seen) == set(first), f"{first} was acknowledged and described as {seen}")
        return first

    def _end(self, here: Any, there: Any, instance: str) -> None:
        self._sure(lambda turn: (here, there)[turn % 2].terminate_instances(InstanceIds=[instance]))
        with self._lock:
            self.kept.discard(instance)
            self.ended.add(instance)
        (state,) = self._sure(lambda turn: _states((there, here)[turn % 2], [instance])).values()
        self._true(
            state in {"shutting-down", "terminated"}, f"{instance} was acknowledged to end and is {state}"
        )

    def _sure(self, work: Callable[[int], Any]) -> Any:
        """The answer, however often it must be asked for. `work` is told which try this is."""
        end = self._clock.monotonic() + PATIENCE
        turn = 0
        while True:
            try:
                result = work(turn)
            except (BotoCoreError, ClientError) as error:
                code = (
                    error.response["Error"]["Code"]
                    if isinstance(error, ClientError)
                    else type(error).__name__
                )
                self._count(code)
                if isinstance(error, ClientError) and code not in PASSING:
                    raise
                if self._clock.monotonic() > end:
                    raise
                self._over.wait(0.05)
            else:
                self._count("fine")
                return result
            turn += 1

    def _count(self, answer: str) -> None:
        with self._lock:
            self.answers[answer] += 1

    def _true(self, fits: bool, otherwise: str) -> None:
        if not fits:
            with self._lock:
                self.lies.append(otherwise)


def _states(client: Any, ids: list[str]) -> dict[str, str]:
    found = client.describe_instances(InstanceIds=ids)["Reservations"]
    return {each["InstanceId"]: each["State"]["Name"] for one in found for each in one["Instances"]}
