"""`mallee`, but each of its services can be told to die at one moment of its work, as by kill -9.

    python -m tests.cloud.mortal up --processes ...

A moment is `what:before` or `what:after`: of an effect (a verb of a node, of its hypervisor, a step of a saga, an
answer from elsewhere) or of its record (a transaction). The product knows nothing of this: its rooms are wrapped
here, from outside. A service looks for its orders in `<state>/moments/<service>`, one a line, `moment nth`;
each is carried out once, so what is started again lives, or dies at the next line. `any` is every moment.
In `<state>/moments/trace` every moment is written down while the file is there.
"""

from __future__ import annotations

import importlib
import inspect
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

ROOMS: dict[str, tuple[str, ...]] = {
    "clc": (
        "mallee.clc.call:Call.change",
        "mallee.clc.clusters:ClusterClient.place",
        "mallee.clc.clusters:ClusterClient.release",
        "mallee.clc.clusters:ClusterClient._converge",
        "mallee.clc.clusters:ClusterClient.migrate",
        "mallee.clc.facts:Facts.take",
    ),
    "cc": (
        "mallee.cc.placing:Placing.place",
        "mallee.cc.placing:Placing.release",
        "mallee.cc.convergence:Convergence.converge",
        "mallee.cc.convergence:Convergence.order",
        "mallee.cc.convergence:Convergence.learn",
        "mallee.cc.migration.desk:Desk.migrate",
        "mallee.cc.migration.desk:Desk._end",
        *(
            f"mallee.cc.node_client:NodeClient.{verb}"
            for verb in ("prepare", "stop_and_copy", "verify", "activate", "discard", "abandon", "resume")
        ),
        *(
            f"mallee.cc.migration.live:{step}.{way}"
            for step in (
                *(
                    "PreMigration",
                    "Reservation",
                    "IterativePreCopy",
                    "StopAndCopy",
                    "Commitment",
                    "Activation",
                ),
            )
            for way in ("do", "undo")
        ),
        "mallee.kernel.saga.run:Run.claim",
        "mallee.kernel.saga.run:Run._write",
    ),
    "nc": (
        "mallee.nc.guests:Guests.take_orders",
        "mallee.nc.guests:Guests.take_news",
        *(
            f"mallee.nc.drivers.fake:FakeDriver.{verb}"
            for verb in (
                "start",
                "shut_down",
                "destroy",
                "pause",
                "resume",
                "prepare",
                "receive",
                "stop_and_copy",
            )
        ),
        *(
            f"mallee.nc.migration:Migrations.{verb}"
            for verb in ("prepare", "stop_and_copy", "verify", "activate", "discard", "abandon", "resume")
        ),
    ),
}
RECORD = "mallee.kernel.db.sqlite:Sqlite.transact"


class Fate:
    """When this process dies."""

    def __init__(self, folder: Path, service: str) -> None:
        self._service = service
        self._orders = folder / service
        self._trace = folder / "trace"
        self._seen: Counter[str] = Counter()
        self._last = ""

    def meet(self, moment: str) -> None:
        """Die here, if it is ordered."""
        if self._trace.exists():
            with self._trace.open("a") as file:
                file.write(f"{self._service} {moment}\n")
        try:
            orders = self._orders.read_text()
        except FileNotFoundError:
            return
        if orders != self._last:
            self._last = orders
            self._seen.clear()
        self._seen[moment] += 1
        self._seen["any"] += 1
        now, _, later = orders.partition("\n")
        wanted, nth = now.split()
        if wanted not in {moment, "any"} or self._seen[wanted] != int(nth):
            return
        if later.strip():
            passing = self._orders.with_suffix(".new")
            passing.write_text(later)
            passing.rename(self._orders)
        else:
            self._orders.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def wrap(owner: type, name: str, label: Callable[..., str], fate: Fate) -> None:
    """Let `owner.name` be an effect with a moment before it and one after."""
    inner = inspect.getattr_static(owner, name)

    if inspect.iscoroutinefunction(inner):

        @wraps(inner)
        async def mortal(*args: Any, **named: Any) -> Any:
            what = label(*args)
            fate.meet(f"{what}:before")
            result = await inner(*args, **named)
            fate.meet(f"{what}:after")
            return result
    else:

        @wraps(inner)
        def mortal(*args: Any, **named: Any) -> Any:
            what = label(*args)
            fate.meet(f"{what}:before")
            result = inner(*args, **named)
            fate.meet(f"{what}:after")
            return result

    setattr(owner, name, mortal)


def _found(path: str) -> tuple[type, str]:
    module, _, names = path.partition(":")
    owner, name = names.split(".")
    return getattr(importlib.import_module(module), owner), name


def _work_name(_db: object, work: Callable[..., Any], *_: Any) -> str:
    """A transaction is called as the function that does its work."""
    found = getattr(work, "__qualname__", None) or getattr(
        getattr(work, "func", None), "__qualname__", "work"
    )
    return "record." + found.replace(".<locals>", "").replace("<lambda>", "work")


def _entries(_run: object, entries: Any, **_: Any) -> str:
    return "log." + "+".join(f"{each.event}.{each.step}" for each in entries) if entries else "log.state"


def be_mortal(role: str, fate: Fate) -> None:
    """Wrap the rooms of a service of this role."""
    for path in ROOMS.get(role, ()):
        owner, name = _found(path)
        if not hasattr(owner, name):
            raise LookupError(f"{path} is no room any more: name the one that does its work")
        if name == "_write":
            wrap(owner, name, _entries, fate)
        elif name in owner.__dict__:
            words = f"{owner.__name__}.{name}"
            wrap(owner, name, lambda *_, words=words: words, fate)
    wrap(*_found(RECORD), _work_name, fate)


def main() -> None:
    """Be `mallee`, and give birth to mortals."""
    from mallee.cli import main as program
    from mallee.cli import supervisor

    words = sys.argv[1:]
    if words[:1] == ["run"]:
        folder = Path(words[words.index("--state") + 1]) / "moments"
        folder.mkdir(exist_ok=True)
        be_mortal(words[1], Fate(folder, words[words.index("--member") + 1]))
    supervisor.PROGRAM = (sys.executable, "-m", "tests.cloud.mortal")
    supervisor.STEADY = 0.0  # here dying often is no reason to wait
    program.run()


if __name__ == "__main__":
    main()
