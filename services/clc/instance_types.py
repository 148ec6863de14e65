"""The instance types that this cloud offers: Amazon's names and figures, and the operator's own.

`instance_types.toml` beside this file holds the table; the configuration adds to it by name.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from mallee.clc.config import InstanceTypeConfig
from mallee.clc.errors import InvalidInstanceType


@dataclass(frozen=True, slots=True)
class EbsRate:
    """How fast volumes may be: Mbit/s, MB/s, operations a second."""

    bandwidth_mbps: int
    throughput_mbs: float
    iops: int


@dataclass(frozen=True, slots=True)
class InstanceType:
    """One type, in the words of DescribeInstanceTypes.

    Attributes:
        credits: what a burstable type does by default when its credits are gone; empty if not burstable.
        ebs: the rate it always has, with `ebs_most` the one it may reach; None where volumes are not optimised.
    """

    name: str
    vcpus: int
    memory_mib: int
    architectures: tuple[str, ...] = ("x86_64",)
    threads: int = 2
    ghz: float = 2.5
    hypervisor: str = "nitro"
    network: str = "Up to 10 Gigabit"
    interfaces: int = 3
    addresses: int = 10
    burstable: bool = False
    credits: str = ""
    free_tier: bool = False
    current_generation: bool = True
    ebs: EbsRate | None = None
    ebs_most: EbsRate | None = None

    @property
    def cores(self) -> int:
        return max(1, self.vcpus // self.threads)


class InstanceTypes:
    """The table, by name."""

    def __init__(self, types: Iterable[InstanceType]) -> None:
        self._by_name: Mapping[str, InstanceType] = {
            each.name: each for each in sorted(types, key=lambda one: one.name)
        }

    @classmethod
    def load(cls, added: Iterable[InstanceTypeConfig] = ()) -> InstanceTypes:
        """The packaged table with the operator's types, which win over those of the same name."""
        table = tomllib.loads(files("mallee.clc").joinpath("instance_types.toml").read_text())
        types = {each.name: each for family, entry in table.items() for each in _family(family, entry)}
        for own in added:
            known = types.get(own.name, InstanceType(own.name, 1, 1, threads=1))
            types[own.name] = replace(
                known, vcpus=own.vcpus, memory_mib=own.memory_mib, architectures=(own.architecture,)
            )
        return cls(types.values())

    def __iter__(self) -> Iterator[InstanceType]:
        """By name."""
        return iter(self._by_name.values())

    def get(self, *names: str) -> list[InstanceType]:
        """The types of these names.

        Raises:
            InvalidInstanceType: naming all that are not offered.
        """
        unknown = [name for name in names if name not in self._by_name]
        if unknown:
            raise InvalidInstanceType(*unknown)
        return [self._by_name[name] for name in names]


def _family(family: str, entry: Mapping[str, Any]) -> Iterator[InstanceType]:
    common = {key: value for key, value in entry.items() if key != "sizes"}
    for size, own in entry["sizes"].items():
        values = {**common, **own}
        interfaces, addresses = values.pop("interfaces")
        for rate in ("ebs", "ebs_most"):
            if rate in values:
                values[rate] = EbsRate(*values[rate])
        if "architectures" in values:
            values["architectures"] = tuple(values["architectures"])
        yield InstanceType(f"{family}.{size}", interfaces=interfaces, addresses=addresses, **values)
