"""What a guest is told about itself, by path; a pure function of how it was described."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from mallee.domain.guest import Guest, is_path

VERSIONS: Final = (
    *(
        "1.0",
        "2007-01-19",
        "2007-03-01",
        "2007-08-29",
        "2007-10-10",
        "2007-12-15",
        "2008-02-01",
        "2008-09-01",
    ),
    *("2009-04-04", "2011-01-01", "2011-05-01", "2012-01-12", "2014-02-25", "2014-11-05", "2015-10-20"),
    *("2016-04-19", "2016-06-30", "2016-09-02", "2018-03-28", "2018-08-17", "2018-09-24", "2019-10-01"),
    *("2020-10-27", "2021-01-03", "2021-03-23", "2021-07-15", "2022-09-24", "2024-04-11", "latest"),
)
"""The dated trees that are served, EC2's own, all with the same contents."""


_NOT_HERE: Final = (
    "billingProducts",
    "devpayProductCodes",
    "kernelId",
    "marketplaceProductCodes",
    "ramdiskId",
)


def tree(guest: Guest) -> Mapping[str, str]:
    """Path below a version -> text, for every leaf. Folders are what leaves have in common."""
    leaves = {f"meta-data/{name}": text for name, text in _metadata(guest).items()}
    # Unsigned: `signature`, `pkcs7` and `rsa2048` are not found, as is `iam/`, where no role is attached.
    leaves["dynamic/instance-identity/document"] = _document(guest)
    if guest.user_data:
        leaves["user-data"] = guest.user_data.decode("latin-1")  # bytes as they are; the door writes them so
    return leaves


def listing(leaves: Mapping[str, str], folder: str) -> str | None:
    """The names below a folder, one a line, those of folders with a slash; None when there is no such folder."""
    prefix = f"{folder}/" if folder else ""
    names: dict[str, None] = {}
    for path in leaves:
        if path.startswith(prefix):
            head, slash, _ = path.removeprefix(prefix).partition("/")
            names[head + slash] = None
    if not names:
        return None
    if folder == "meta-data/public-keys":
        # This one folder lists its numbers with the names of the keys.
        return "\n".join(f"{name.rstrip('/')}={leaves[f'{prefix}{name}name']}" for name in names)
    return "\n".join(sorted(names))


def _metadata(guest: Guest) -> Mapping[str, str]:
    mac, zone = guest.mac_address, guest.availability_zone
    card = f"network/interfaces/macs/{mac}"
    found = {
        "ami-id": guest.image_id,
        "ami-launch-index": str(guest.launch_index),
        "ami-manifest-path": "(unknown)",
        "block-device-mapping/ami": guest.root_device_name.removeprefix("/dev/"),
        "block-device-mapping/root": guest.root_device_name,
        "events/maintenance/history": "[]",
        "events/maintenance/scheduled": "[]",
        "hostname": guest.hostname,
        "instance-action": "none",
        "instance-id": guest.instance_id,
        "instance-life-cycle": "on-demand",
        "instance-type": guest.instance_type,
        "local-hostname": guest.hostname,
        "local-ipv4": guest.private_address,
        "mac": mac,
        f"{card}/device-number": "0",
        f"{card}/local-hostname": guest.hostname,
        f"{card}/local-ipv4s": guest.private_address,
        f"{card}/mac": mac,
        f"{card}/owner-id": guest.account_id,
        f"{card}/subnet-ipv4-cidr-block": guest.subnet_cidr,
        "placement/availability-zone": zone,
        "placement/region": _region(zone),
        "services/domain": "mallee.local",
        "services/partition": "aws",
    }
    if guest.public_key:
        found["public-keys/0/openssh-key"] = _as_bytes(guest.public_key)
        found["public-keys/0/name"] = _as_bytes(guest.key_name)
    for name, value in (guest.metadata.tags or {}).items():
        if is_path(name):
            found[f"tags/instance/{name}"] = _as_bytes(value)
    return found


def _as_bytes(text: str) -> str:
    """What the door writes as this text in UTF-8."""
    return text.encode().decode("latin-1")


def _document(guest: Guest) -> str:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-identity-documents.html."""
    launched = datetime.fromtimestamp(guest.launched_ms / 1000, UTC)
    document = {
        "accountId": guest.account_id,
        "architecture": guest.architecture,
        "availabilityZone": guest.availability_zone,
        "imageId": guest.image_id,
        "instanceId": guest.instance_id,
        "instanceType": guest.instance_type,
        "pendingTime": launched.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "privateIp": guest.private_address,
        "region": _region(guest.availability_zone),
        "version": "2017-09-30",
        **dict.fromkeys(_NOT_HERE),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode()


def _region(zone: str) -> str:
    return zone[:-1] if zone[-1:].isalpha() else zone
