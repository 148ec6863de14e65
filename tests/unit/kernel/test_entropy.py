"""Identifiers: their form, and that none is given twice."""

from __future__ import annotations

import re

from mallee.kernel.entropy import SeededEntropy, resource_id, resource_ids

_FORM = re.compile(r"eni-0[0-9a-f]{16}")


class _Last(SeededEntropy):
    """Draws the very last number, behind which the circle begins anew."""

    def token(self, size: int) -> bytes:
        return b"\xff" * size


def test_ids_of_a_batch_are_distinct_neighbours_in_the_form_of_the_others() -> None:
    entropy = SeededEntropy(1)
    ids = resource_ids(entropy, "eni", 1000)
    assert len(set(ids)) == 1000
    assert all(_FORM.fullmatch(each) for each in (*ids, resource_id(entropy, "eni")))
    assert len({each[:13] for each in ids}) == 1
    assert ids[0][:13] != resource_ids(entropy, "eni", 1)[0][:13]


def test_a_batch_goes_around_the_end_of_the_numbers() -> None:
    assert resource_ids(_Last(1), "i", 3) == [
        "i-0ffffffffffffffff",
        "i-0ffffffff00000000",
        "i-0ffffffff00000001",
    ]
