"""`python -m tests.sim --seeds 0..1999 --jobs 2`, or `--seed 17` for one of them, told line by line."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from tests.sim import everywhere
from tests.sim.crowds import crowd
from tests.sim.mutants import MUTANTS, PATIENCE, lifetime
from tests.sim.runner import Result, each, warm_up
from tests.sim.story import migrate_and_migrate, simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", default="0..99", help="first..last")
    parser.add_argument("--these", nargs="+", help="single seeds")
    parser.add_argument("--seed", help="replay one, with its trace")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--stop", action="store_true", help="end with the first violation")
    parser.add_argument("--hashes", action="store_true", help="print the hash of each trace")
    parser.add_argument("--migrations", type=int, help="worlds that only migrate, until so many have ended")
    parser.add_argument("--mutants", nargs="*", help="how many seeds each planted fault lives")
    parser.add_argument("--crowds", action="store_true", help="more launches at once than there is room for")
    parser.add_argument("--everywhere", nargs="*", help="death at every point of these works, or of all")
    asked = parser.parse_args()
    if asked.seed is not None:
        _replay(asked.seed, migrate_and_migrate if asked.migrations else simulate)
    gc.disable()
    first, _, last = asked.seeds.partition("..")
    seeds = asked.these or [str(seed) for seed in range(int(first), int(last or first) + 1)]
    if asked.mutants is not None:
        return _mutants(asked.mutants or list(MUTANTS), asked.jobs)
    if asked.everywhere is not None:
        return _everywhere(asked)
    if asked.crowds:
        return _many(seeds, crowd, asked)
    if asked.migrations:
        return _many(seeds, migrate_and_migrate, asked, enough=asked.migrations)
    return _many(seeds, simulate, asked)


def _replay(seed: str, run: Callable[..., Result]) -> NoReturn:
    gc.disable()
    result = run(seed, tell=lambda line: print(line, flush=True))
    print(f"seed {seed}: trace {result.digest}")
    for violation in result.violations:
        print(f"  {violation}")
    sys.stdout.flush()
    os._exit(1 if result.violations else 0)  # its abandoned tasks must not be cleaned up


def _mutants(names: list[str], jobs: int) -> int:
    warm_up(simulate)
    alive = 0
    for name in names:
        seeds, result = lifetime(name, map(str, range(PATIENCE)), jobs)
        alive += result is None
        told = result.violations[0].partition("\n")[0][:110] if result else "LIVES"
        print(f"{name:45} {seeds:4} seeds  {told}", flush=True)
    print(f"{len(names) - alive} of {len(names)} planted faults were found")
    return 1 if alive else 0


def _everywhere(asked: argparse.Namespace) -> int:
    warm_up(simulate)
    points = []
    for rehearsed in each(asked.everywhere or list(everywhere.WORKS), everywhere.rehearsal, asked.jobs):
        points += [each_ for point in rehearsed.seed for each_ in (point, point._replace(twice=True))]
        print(f"{rehearsed.seed[0].work}: {len(rehearsed.seed)} points", flush=True)
    return _many(points, everywhere.strike, asked)


def _many(
    seeds: Sequence[Any], run: Callable[[Any], Result], asked: argparse.Namespace, *, enough: int = 0
) -> int:
    if run is not everywhere.strike:
        warm_up(simulate)
    began, totals, bad, count = time.monotonic(), Counter[str](), 0, 0
    for result in each(seeds, run, asked.jobs):
        count += 1
        totals.update(result.stats)
        if asked.hashes:
            print(result.seed, result.digest)
        if result.violations:
            bad += 1
            print(f"seed {result.seed}: {len(result.violations)} violations")
            for violation in result.violations[:4]:
                print(f"  {violation[:1500]}")
            sys.stdout.flush()
        if (bad and asked.stop) or (enough > 1 and totals["migrations"] >= enough):
            break
    wall = time.monotonic() - began
    print(
        f"{count} schedules ({seeds[0]}..{seeds[-1]}), {bad} with violations; "
        f"{wall:.0f} s, {count / wall:.1f}/s, {totals['cpu'] / count:.2f} CPU s each; "
        f"{totals['virtual'] / 3600:.1f} virtual hours, {totals['instances']:.0f} instances, "
        f"{totals['migrations']:.0f} migrations ({totals['completed']:.0f} completed), "
        f"{totals['messages']:.0f} messages, {totals['steps']:.0f} steps"
    )
    return 1 if bad or totals["migrations"] < enough else 0


if __name__ == "__main__":
    sys.exit(main())
