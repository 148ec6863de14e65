"""The kill matrix with real guests: whoever dies at whatever moment, exactly one QEMU runs on.

The moments and blows are those that the fakes pass; libvirt's two daemons are struck too. A part of it
runs always; with MALLEE_WHOLE_MATRIX=1 every blow strikes at every moment, which takes half an hour.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mallee.cli.lab import Host
from tests.conformance import test_migration_kill_matrix as matrix
from tests.conformance.migration_field import HERE, THERE
from tests.conformance.test_migration_kill_matrix import copying, crossing, forgetting, stopping, waking
from tests.live.field import RealField

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Blow = Callable[[Any], Awaitable[None]]


async def source_libvirt(field: Any) -> None:
    await field.kill_hypervisor(HERE)


async def destination_libvirt(field: Any) -> None:
    await field.kill_hypervisor(THERE)


BLOWS: tuple[Blow, ...] = (*matrix.BLOWS, source_libvirt, destination_libvirt)
ALWAYS: dict[Any, tuple[Blow, ...]] = {
    copying: (matrix.source_guest, matrix.destination_guest, source_libvirt, matrix.the_line_between_nodes),
    stopping: (destination_libvirt,),
    crossing: (matrix.source_daemon, matrix.destination_guest, matrix.the_controller),
    waking: (source_libvirt, matrix.destination_daemon),
    forgetting: (matrix.source_guest, destination_libvirt),
}
WHOLE = "MALLEE_WHOLE_MATRIX" in os.environ
CELLS = [(moment, blow) for moment in matrix.MOMENTS for blow in (BLOWS if WHOLE else ALWAYS.get(moment, ()))]


@pytest.fixture
async def field(hosts: Sequence[Host], tmp_path: Path) -> AsyncIterator[RealField]:
    made = RealField(hosts, tmp_path)
    await made.open()
    try:
        await made.run()
        yield made
    finally:
        await made.close()


@pytest.mark.parametrize(("moment", "blow"), CELLS, ids=lambda each: each.__name__)
async def test_exactly_one_survives(field: RealField, moment: Any, blow: Blow) -> None:
    await matrix.strike(field, moment, blow)
