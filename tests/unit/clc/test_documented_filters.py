"""Every filter that Amazon documents for a built action is there, or is left out for a reason."""

from __future__ import annotations

import gzip
import importlib
import json
import pkgutil
import re
from html.parser import HTMLParser
from pathlib import Path

import botocore
import pytest

import mallee.clc.api
from mallee.aws import model
from mallee.clc.api.ec2 import ec2

for found in pkgutil.walk_packages(mallee.clc.api.__path__, "mallee.clc.api."):
    importlib.import_module(found.name)  # importing the families fills the table

_place = Path("ec2") / model.VERSIONS["ec2"]
_botocore = Path(botocore.__file__).parent / "data" / _place / "service-2.json.gz"
MODEL = json.loads(gzip.decompress(_botocore.read_bytes()))

# action -> filter -> why it is not there
LEFT_OUT: dict[str, dict[str, str]] = {}
# action -> filters that are not in today's list: older names that clients still use
MORE: dict[str, set[str]] = {
    "DescribeNetworkInterfaces": {"group-name"},
    "DescribeSubnets": {"availabilityZone", "availabilityZoneId", "cidr", "cidrBlock", "defaultForAz"},
    "DescribeVpcs": {"isDefault"},
}


class _Names(HTMLParser):
    """The first `<code>` of each item of the outermost list."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self._depth = 0
        self._wanted = self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "ul":
            self._depth += 1
        elif tag == "li" and self._depth == 1:
            self._wanted = True
        elif tag == "code" and self._wanted:
            self._wanted, self._inside = False, True
            self.names.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "ul":
            self._depth -= 1
        elif tag == "code":
            self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.names[-1] += data


def documented(operation: str) -> set[str] | None:
    if operation not in MODEL["operations"]:
        return None  # Mallee's own
    shape = MODEL["shapes"][MODEL["operations"][operation]["input"]["shape"]]
    filters = [member for member in shape["members"].values() if member["shape"] == "FilterList"]
    if not filters:
        return None
    reader = _Names()
    reader.feed(filters[0]["documentation"])
    return {re.sub(r"^tag(:.*)?$", "tag:", name.strip()) for name in reader.names}


FILTERED = [action for action in ec2 if documented(action.name) is not None]


def test_there_are_some() -> None:
    assert len(FILTERED) >= 10
    assert {"tag:", "instance-type"} <= (documented("DescribeInstances") or set())


@pytest.mark.parametrize("action", FILTERED, ids=lambda action: action.name)
def test_the_filters_are_those_that_are_documented(action) -> None:
    wanted = documented(action.name)
    assert action.filters is not None
    assert wanted - set(action.filters) == set(LEFT_OUT.get(action.name, ())), "not there"
    assert set(action.filters) - wanted == MORE.get(action.name, set()), "not documented"
