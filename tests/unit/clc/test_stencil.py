"""What a launch answers by stencil is what the view writes: the slow twin is the view itself."""

from __future__ import annotations

from typing import Any

import pytest

from mallee.clc.api.ec2.instances import stencil, view
from mallee.clc.api.ec2.instances.view import Seen
from mallee.clc.call import Call
from mallee.clc.db import instances
from tests.unit.clc.pretend_cloud import PretendCloud

_ODD = "100 % of <it> & %(id)s ☂"


def _tagged(value: str) -> dict[str, Any]:
    return {"TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": value}]}]}


async def _launched(pretend: PretendCloud, **asked: Any) -> list[Seen]:
    ids = await pretend.run(3, **asked)
    account = pretend.cloud.admin_account
    return await pretend.cloud.db.read(lambda tx: view.look(tx, account, instances.mine(tx, account, ids)))


def _call(pretend: PretendCloud) -> Call:
    account = pretend.cloud.admin_account
    return Call(pretend.request("RunInstances", account, None, {}), pretend.cloud)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        _tagged("plain"),
        _tagged(_ODD),
        _tagged("stencil-id"),
        _tagged("stencil-hostname of 240.161.178.1"),
        {"ClientToken": _ODD[:20]},
        {"InstanceType": "m5.large", "Monitoring": {"Enabled": True}, "DisableApiTermination": True},
        {"PrivateDnsNameOptions": {"HostnameType": "resource-name"}},
        {"NetworkInterfaces": [{"DeviceIndex": 0, "Description": _ODD, "DeleteOnTermination": False}]},
    ],
)
async def test_the_same_text(pretend: PretendCloud, asked: dict[str, Any]) -> None:
    call = _call(pretend)
    for seen in (*await _launched(pretend, **asked), *await _launched(pretend, **asked)):
        plain = view.render(call, seen)
        assert call.cloud.rendered.get_all({seen.row.id: 1}) == {seen.row.id: plain}
        assert stencil.render(call, seen) == plain


async def test_a_stencil_is_used_for_all_of_a_kind(
    pretend: PretendCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = {"AvailabilityZone": "mallee-1a"}
    await pretend.run(1, Placement=here)
    monkeypatch.delattr(view, "render")
    await pretend.run(5, Placement=here)


async def test_what_is_no_longer_as_it_was_launched_is_written_plainly(pretend: PretendCloud) -> None:
    call = _call(pretend)
    first = (await _launched(pretend))[0]
    later = first._replace(row=first.row._replace(changed_ms=first.row.changed_ms + 1, state=16))
    unplaced = first._replace(row=first.row._replace(host_id=""))
    bare = first._replace(wired=())
    for seen in (later, unplaced, bare):
        assert stencil.render(call, seen) == view.render(call, seen)
