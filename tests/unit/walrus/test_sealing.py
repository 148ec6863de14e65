"""Sealed bytes: any range of any size opens, and nothing that was moved, cut or changed does."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mallee.kernel.entropy import SeededEntropy
from mallee.kernel.secrets_box import SecretsBox
from mallee.walrus.store.blobs import Damaged
from mallee.walrus.store.sealing import SEGMENT, Opener, Sealer, data_key, new_key, stored_size

KEY = bytes(range(32))
ROOM = SEGMENT - 16
DATA = SeededEntropy(1).token(3 * ROOM + 1000)
sizes = st.one_of(
    st.integers(1, 300), *[st.integers(n * ROOM - 2, n * ROOM + 2) for n in (1, 2, 3)], st.just(len(DATA))
)


def sealed(data: bytes, step: int = 100_000) -> bytes:
    sealer = Sealer(KEY)
    return b"".join([sealer.add(data[at : at + step]) for at in range(0, len(data), step)]) + sealer.end()


def opened(lying: bytes, size: int, first: int, last: int, *, key: bytes = KEY, step: int = 70_000) -> bytes:
    opener = Opener(b"name", key, size, first, last)
    wanted = lying[opener.stored_first : opener.stored_last + 1]
    return b"".join([opener.add(wanted[at : at + step]) for at in range(0, len(wanted), step)])


@given(sizes, st.integers(0, 1 << 30), st.integers(0, 1 << 30), st.sampled_from([1000, 65536, 1 << 20]))
def test_any_range_opens(size: int, one: int, other: int, step: int) -> None:
    first, last = sorted((one % size, other % size))
    lying = sealed(DATA[:size], step)
    assert len(lying) == stored_size(size)
    assert opened(lying, size, first, last, step=step) == DATA[first : last + 1]


def test_an_empty_object_is_empty() -> None:
    assert sealed(b"") == b""
    assert stored_size(0) == 0


@pytest.mark.parametrize("step", [1, 17, 65519, 65520, 65521, 65536])
def test_how_it_comes_does_not_matter(step: int) -> None:
    data = DATA[: ROOM + 50] if step < 100 else DATA
    assert sealed(data, step) == sealed(data)


def test_what_was_changed_does_not_open() -> None:
    lying, size = sealed(DATA), len(DATA)
    swapped = lying[SEGMENT : 2 * SEGMENT] + lying[:SEGMENT] + lying[2 * SEGMENT :]
    flipped = lying[:70_000] + bytes([lying[70_000] ^ 1]) + lying[70_001:]
    for wrong in (swapped, flipped):
        with pytest.raises(Damaged):
            opened(wrong, size, 0, size - 1)
    # Who cuts whole segments off, and the size in the row with them, has no last segment.
    with pytest.raises(Damaged):
        opened(lying[: 2 * SEGMENT], 2 * ROOM, 0, 2 * ROOM - 1)
    with pytest.raises(Damaged):
        opened(lying, size, 0, 10, key=bytes(32))


def test_a_data_key_is_sealed_by_the_store_and_outlives_a_new_key(tmp_path: Path) -> None:
    entropy = SeededEntropy(2)
    box = SecretsBox.open(tmp_path / "keys", entropy)
    key, crypt = new_key(box, entropy, None)
    box.rotate()
    assert data_key(SecretsBox.open(tmp_path / "keys", entropy), crypt, None) == key
    assert key not in crypt
