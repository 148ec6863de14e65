"""What the tests of real migrations share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from mallee.cli.lab import Host, missing, some_hosts


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[Host]]:
    """Two hosts with a libvirt daemon each, which exchange guests."""
    if reason := missing():
        pytest.skip(reason)
    with some_hosts(2, tmp_path_factory.mktemp("hosts")) as hosts:
        yield hosts
