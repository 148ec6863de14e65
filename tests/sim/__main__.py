"""`python -m tests.sim --seeds 0..1999 --jobs 2`, or `--seed 17` for one of them, told line by line."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections import Counter
from typing import NoReturn

from tests.sim.mutants import MUTANTS, PATIENCE, lifetime
from tests.sim.runner import Result, each, warm_up
from tests.sim.story import simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", help="first..last")
    parser.add_argument("--seed", help="replay one, with its trace")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--stop", action="store_true", help="end with the first violation")
    parser.add_argument("--hashes", action="store_true", help="print the hash of each trace")
    parser.add_argument(
        "--mutants", nargs="*", help="how many seeds each planted fault lives; all, or those named"
    )
    asked = parser.parse_args()
    if asked.seed is not None:
        _replay(asked.seed)
    if asked.mutants is not None:
        return _mutants(asked.mutants or list(MUTANTS), asked.jobs)
    first, _, last = (asked.seeds or "0..99").partition("..")
    return _many(range(int(first), int(last or first) + 1), asked)


def _replay(seed: str) -> NoReturn:
    gc.disable()
    result = simulate(seed, tell=lambda line: print(line, flush=True))
    print(f"seed {seed}: trace {result.digest}")
    for violation in result.violations:
        print(f"  {violation}")
    sys.stdout.flush()
    os._exit(1 if result.violations else 0)  # its abandoned tasks must not be cleaned up


def _mutants(names: list[str], jobs: int) -> int:
    gc.disable()
    warm_up(simulate)
    alive = 0
    for name in names:
        seeds, result = lifetime(name, range(PATIENCE), jobs)
        alive += result is None
        told = result.violations[0].partition("\n")[0][:110] if result else "LIVES"
        print(f"{name:45} {seeds:4} seeds  {told}", flush=True)
    print(f"{len(names) - alive} of {len(names)} planted faults were found")
    return 1 if alive else 0


def _many(seeds: range, asked: argparse.Namespace) -> int:
    gc.disable()
    warm_up(simulate)
    began, totals, bad, count = time.monotonic(), Counter[str](), list[Result](), 0
    for result in each(map(str, seeds), simulate, asked.jobs):
        count += 1
        totals.update(result.stats)
        if asked.hashes:
            print(result.seed, result.digest)
        if result.violations:
            bad.append(result)
            print(f"seed {result.seed}: {len(result.violations)} violations")
            for violation in result.violations[:4]:
                print(f"  {violation[:1500]}")
            sys.stdout.flush()
            if asked.stop:
                break
    wall = time.monotonic() - began
    print(
        f"{count} schedules ({seeds.start}..{seeds.stop - 1}), {len(bad)} with violations; "
        f"{wall:.0f} s, {count / wall:.1f}/s, {totals['cpu'] / count:.2f} CPU s each; "
        f"{totals['virtual'] / 3600:.1f} virtual hours, {totals['instances']:.0f} instances, "
        f"{totals['migrations']:.0f} migrations, {totals['messages']:.0f} messages, {totals['steps']:.0f} steps"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
