"""kill -9 at every moment of every kind of work: before an effect, after it, before and after its record.

Which moments there are is not listed but seen: each kind of work is done once and traced, and then done again for each
moment that it went through, with the service that had it killed there. The same client then sees what
it was promised, and the books agree.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import msgspec
import pytest
from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from mallee.cli.state import Access, StateFolder
from mallee.kernel.clock import SystemClock
from tests.acceptance.containers import ROOT
from tests.cloud import audit
from tests.cloud.clouds import INSTANCE_TYPE, TestCloud
from tests.cloud.test_kills import OPEN

# What is wrapped twice, or has its own hour: these happen whether anything is asked for or not.
ELSEWHERE = (
    *("record.Run._write", "record.Run.claim", "record.Engine._look", "record.Graveyard.load"),
    *("Guests.take_news", "log.state"),
)
TIMES = 3  # a record that is made again and again is met at its first so many times
WITHIN = 40.0  # seconds, everything that was promised after a death
# The last is for a node that is on its way back, or a migration whose answer was lost and which is under way.
PASSING = {"Unavailable", "InsufficientInstanceCapacity", "MigrationNotPossible"}
PAUSE = 0.05  # seconds
CONSOLE = 20  # boots that a console surely remembers
QUICK = {"MALLEE_NC_START_SECONDS": "0.1", "MALLEE_CC_CLAIM_SECONDS": "3"}

_log = logging.getLogger(__name__)  # `--log-cli-level=INFO` shows the figures


def patiently(work: Callable[[], Any], seconds: float = WITHIN) -> Any:
    """What a careful client does while a service is away: the same again after a short while."""
    clock, pause = SystemClock(), Event()
    end = clock.monotonic() + seconds
    while True:
        try:
            return work()
        except (BotoCoreError, ClientError) as error:
            code = error.response["Error"]["Code"] if isinstance(error, ClientError) else "Unavailable"
            if code not in PASSING or isinstance(error, WaiterError) or clock.monotonic() > end:
                raise
            pause.wait(PAUSE)


def _effective(lines: Sequence[str]) -> set[str]:
    """Without those between which and the next of the same service nothing happened: work that begins with other
    work, or ends with its end. Whoever dies there dies at the same moment."""
    by_service: dict[str, list[str]] = {}
    for line in lines:
        by_service.setdefault(line.split()[0], []).append(line)
    dull: set[str] = set()
    for mine in by_service.values():
        for one, other in pairwise(mine):
            if one.endswith(":before") and other.endswith(":before"):
                dull.add(one)
            elif one.endswith(":after") and other.endswith(":after"):
                dull.add(other)
    return {line for line in lines if " record." in line or line not in dull}


class Moment(NamedTuple):
    """Where a service dies. `service`: its label; `home` and `away` for the node of the instance and the other one."""

    service: str
    name: str
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.service} at {self.name}" + (f" number {self.nth}" if self.nth > 1 else "")


class Mortal(TestCloud):
    """A cloud of mortals, see `tests.cloud.mortal`."""

    @classmethod
    def start(cls, root: Path, *options: str) -> Mortal:
        folder = StateFolder(root)
        folder.make()
        words = ("up", "--json", "--port", "0", "--state", str(root), "--processes", *options)
        with (folder.logs / "up.log").open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "tests.cloud.mortal", *words],
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
            )
        assert child.stdout is not None
        with child.stdout as said:
            line = said.readline()
        assert line, (folder.logs / "up.log").read_text()
        return cls(folder, options, msgspec.json.decode(line, type=Access), child)

    @property
    def moments(self) -> Path:
        return self.folder.root / "moments"

    @property
    def nodes(self) -> list[str]:
        return sorted(label for label in self.folder.pids() if label.startswith("nc-"))

    def home(self, instance: str) -> str:
        """The label of the node that has it."""
        host = self.describe([instance])[instance]["Placement"]["HostId"]
        hosts = self.ec2.describe_hosts(HostIds=[host])["Hosts"]
        return "nc-" + next(tag["Value"] for tag in hosts[0]["Tags"] if tag["Key"] == "Name")

    def trace(self, work: Callable[[], None]) -> list[Moment]:
        """The moments of a piece of work, those of nobody's work left out."""
        trace = self.moments / "trace"
        trace.touch()
        work()
        lines = trace.read_text().splitlines()
        trace.unlink()
        mine = [line for line in lines if not line.split()[1].startswith(ELSEWHERE)]
        seen = Counter(line for line in lines if line in _effective(mine))
        return [
            Moment(*line.split(), nth)
            for line, count in seen.items()
            for nth in range(1, min(count, TIMES if " record." in line else 1) + 1)
        ]

    def order(self, service: str, moment: Moment, *then: str) -> None:
        path = self.moments / service
        passing = path.with_suffix(".new")
        passing.write_text("\n".join((f"{moment.name} {moment.nth}", *then)))
        passing.rename(path)

    def unorder(self, service: str) -> bool:
        """Let it live; whether it still waited for its moment."""
        try:
            (self.moments / service).unlink()
        except FileNotFoundError:
            return False
        return True


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mortal]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUICK.items():
            patch.setenv(name, value)
        made = Mortal.start(tmp_path_factory.mktemp("mortal") / "state", "--zones", "1")
    yield made
    assert made.stop() == 0


@dataclass
class Work:
    """One kind of work: what it begins with, and what is asked for and promised."""

    cloud: Mortal
    number: int = 0
    instance: str = ""

    ready = "running"  # the state that it begins with; empty for none
    settled = True  # which node it is about
    promised = "running"

    def prepare(self) -> None:
        self.number += 1
        if self.ready:
            self.instance = self._one_in(self.ready)

    def ask(self) -> None:
        raise NotImplementedError

    def traced(self) -> list[Moment]:
        """The moments of this work, each once."""
        self.prepare()
        home = self.where

        def once() -> None:
            self.ask()
            self.wait()
            settle(self.cloud)

        seen = self.cloud.trace(once)
        home = home or self.cloud.home(self.instance)
        parts = {node: "home" if node == home else "away" for node in self.cloud.nodes}
        return list(
            dict.fromkeys(each._replace(service=parts.get(each.service, each.service)) for each in seen)
        )

    @property
    def where(self) -> str:
        """The label of the node that has the instance before the work; empty when that is yet to be decided."""
        return (
            self.cloud.home(self.instance) if self.instance and self.cloud.describe([self.instance]) else ""
        )

    def victims(self, service: str) -> list[str]:
        """Who may meet a moment of this service: the first that does dies."""
        if service not in {"home", "away"}:
            return [service]
        if not self.settled:
            return self.cloud.nodes
        home = self.where
        return [node for node in self.cloud.nodes if (node == home) == (service == "home")]

    def wait(self) -> None:
        """Return when what was promised is so."""
        patiently(lambda: self.cloud.wait(f"instance_{self.promised}", [self.instance]), WITHIN)

    def _one_in(self, state: str) -> str:
        """An instance that rests in this state, the one that was used before if possible."""
        ec2 = self.cloud.ec2
        found = {name: each["State"]["Name"] for name, each in self.cloud.describe().items()}
        if state not in found.values():
            if state == "running" and "stopped" in found.values():
                name = next(name for name, each in found.items() if each == "stopped")
                patiently(lambda: ec2.start_instances(InstanceIds=[name]))
            elif state == "running":
                name = patiently(lambda: self.cloud.launch(1))[0]["InstanceId"]
            else:
                name = self._one_in("running")
                patiently(lambda: ec2.stop_instances(InstanceIds=[name]))
            patiently(lambda: self.cloud.wait(f"instance_{state}", [name]))
            return name
        return next(name for name, each in found.items() if each == state)


class Run(Work):
    """RunInstances, said again with its token until it is answered."""

    ready = ""
    settled = False

    def prepare(self) -> None:
        super().prepare()
        self.instance = ""

    def ask(self) -> None:
        asked = {"ImageId": self.cloud.image(), "InstanceType": INSTANCE_TYPE, "MinCount": 1, "MaxCount": 1}
        token = f"run-{self.number}-{id(self)}"
        made = patiently(lambda: self.cloud.ec2.run_instances(**asked, ClientToken=token))
        self.instance = made["Instances"][0]["InstanceId"]


class Stop(Work):
    promised = "stopped"

    def ask(self) -> None:
        patiently(lambda: self.cloud.ec2.stop_instances(InstanceIds=[self.instance]))


class Start(Work):
    ready = "stopped"
    settled = False

    def ask(self) -> None:
        patiently(lambda: self.cloud.ec2.start_instances(InstanceIds=[self.instance]))


class Reboot(Work):
    """Its console tells of one boot more. A request that is said twice may be two reboots."""

    def prepare(self) -> None:
        super().prepare()
        self.boots = self._boots()
        if self.boots > CONSOLE:
            patiently(lambda: self.cloud.ec2.terminate_instances(InstanceIds=[self.instance]))
            self.prepare()

    def ask(self) -> None:
        patiently(lambda: self.cloud.ec2.reboot_instances(InstanceIds=[self.instance]))

    def wait(self) -> None:
        clock, pause = SystemClock(), Event()
        end = clock.monotonic() + WITHIN
        while self._boots() <= self.boots:
            assert clock.monotonic() < end, f"{self.instance} has not rebooted"
            pause.wait(PAUSE)
        super().wait()

    def _boots(self) -> int:
        said = patiently(lambda: self.cloud.ec2.get_console_output(InstanceId=self.instance, Latest=True))
        return str(said.get("Output", "")).count("Linux version")


class Terminate(Work):
    promised = "terminated"

    def ask(self) -> None:
        patiently(lambda: self.cloud.ec2.terminate_instances(InstanceIds=[self.instance]))


class Migrate(Work):
    """Completed, or taken back; running either way."""

    def ask(self) -> None:
        token = f"migrate-{self.number}-{id(self)}"
        migrate = self.cloud.ec2.migrate_instances
        asked = patiently(lambda: migrate(InstanceIds=[self.instance], ClientToken=token))
        self.migration = asked["Migrations"][0]["MigrationId"]

    def wait(self) -> None:
        find = self.cloud.ec2.describe_instance_migrations
        clock, pause = SystemClock(), Event()
        end = clock.monotonic() + WITHIN
        while (now := patiently(lambda: find(MigrationIds=[self.migration]))["Migrations"][0])[
            "State"
        ] in OPEN:
            assert clock.monotonic() < end, now
            twice = audit.doubled(self.cloud)
            assert not twice, twice
            pause.wait(PAUSE / 5)
        assert now["State"] in {"completed", "failed"}, now
        super().wait()


def settle(cloud: Mortal) -> None:
    """The books agree, soon."""
    clock, pause = SystemClock(), Event()
    end = clock.monotonic() + WITHIN
    while True:
        try:
            wrong = audit.wrong(cloud)
        except (BotoCoreError, ClientError) as error:  # a service is on its way back
            wrong = [repr(error)]
        if not wrong:
            return
        assert clock.monotonic() < end, "\n".join(wrong)
        pause.wait(PAUSE)


def die(work: Work, moment: Moment, *then: str) -> bool:
    """Do the work with one death in it; whether the moment came."""
    work.prepare()
    victims = work.victims(moment.service)
    for victim in victims:
        work.cloud.order(victim, moment, *then)
    work.ask()
    work.wait()
    settle(work.cloud)
    left = [victim for victim in victims if work.cloud.unorder(victim)]
    return len(left) < len(victims)


# At least so many moments has each kind of work, so that a room that is renamed is missed.
KINDS = {Run: 15, Stop: 12, Start: 15, Reboot: 10, Terminate: 12, Migrate: 40}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__.lower())
def test_it_dies_at_every_moment_of(cloud: Mortal, kind: type[Work]) -> None:
    work = kind(cloud)
    moments = work.traced()
    assert len(moments) >= KINDS[kind]
    missed = []
    clock = SystemClock()
    began = clock.monotonic()
    for moment in moments:
        try:
            came = die(work, moment)
        except (AssertionError, BotoCoreError, ClientError) as error:
            raise AssertionError(f"{kind.__name__}: {moment} died\n{error}") from error
        if not came:
            missed.append(str(moment))
    _log.info(
        "%s: %d deaths in %.0f s; never came: %s",
        kind.__name__,
        len(moments) - len(missed),
        clock.monotonic() - began,
        missed,
    )
    # What is gathered with other things may come once where it came twice before.
    assert len(missed) <= len(moments) // 5, missed


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__.lower())
def test_it_dies_again_while_it_recovers_from(cloud: Mortal, kind: type[Work]) -> None:
    """The second death comes at the second, and a third at the seventh moment of the new life, whatever it is."""
    work = kind(cloud)
    moments = work.traced()
    for service in sorted({moment.service for moment in moments}):
        mine = [moment for moment in moments if moment.service == service]
        for moment in (mine[len(mine) // 3], mine[-1]):
            try:
                die(work, moment, "any 2", "any 7")
            except (AssertionError, BotoCoreError, ClientError) as error:
                raise AssertionError(f"{kind.__name__}: {moment} died twice\n{error}") from error
