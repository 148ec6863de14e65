"""CreateTags, DeleteTags, DescribeTags: tags of whatever the account has, by its id."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mallee.aws.errors import InvalidParameterValue, MissingParameter
from mallee.aws.filters import Filter
from mallee.clc import errors, wishes
from mallee.clc.api.ec2 import ec2, tagging
from mallee.clc.api.ec2.listing import Listing, Looks, Sought, listed, member, nothing, page_of, slice_of
from mallee.clc.call import Call
from mallee.clc.db import images, instances, interfaces, key_pairs, network, security_groups, tags
from mallee.clc.db.tags import Tag
from mallee.clc.resource_ids import is_id
from mallee.kernel.db import Tx

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import DescribeTagsRequestTypeDef

RESOURCES_AT_ONCE = 1000
_BETWEEN = "\x1f"  # of the parts of a page's key: in no id, and lower than any letter of one

Result = dict[str, Any]
Has = Callable[[Tx, str, str], bool]


class Kind(NamedTuple):
    """A taggable kind of resource.

    Attributes:
        type: as the API names it.
        error: what an id of this kind that the account does not have is called.
        has: whether the account has it.
    """

    type: str
    error: Callable[[str], Exception]
    has: Has


def _has_image(tx: Tx, account: str, resource_id: str) -> bool:
    """Own images only: who may launch a public one may not tag it."""
    return any(one.account_id == account for one in images.by_ids(tx, account, (resource_id,)))


_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("aki", "ami", "ari"), Kind("image", errors.InvalidAMIIDNotFound, _has_image)),
    "eni": Kind(
        "network-interface",
        errors.InvalidNetworkInterfaceIDNotFound,
        lambda tx, account, one: bool(interfaces.by_ids(tx, account, (one,))),
    ),
    "i": Kind(
        "instance",
        errors.InvalidInstanceIDNotFound,
        lambda tx, account, one: any(row.account_id == account for row in instances.find(tx, (one,))),
    ),
    "key": Kind(
        "key-pair",
        errors.InvalidKeyPairNotFound,
        lambda tx, account, one: key_pairs.find_id(tx, account, one) is not None,
    ),
    "sg": Kind(
        "security-group",
        errors.InvalidGroupNotFound,
        lambda tx, account, one: bool(security_groups.by_ids(tx, account, (one,))),
    ),
    "sgr": Kind(
        "security-group-rule",
        errors.InvalidSecurityGroupRuleIdNotFound,
        lambda tx, account, one: bool(security_groups.rules_by_ids(tx, account, (one,))),
    ),
    "subnet": Kind(
        "subnet",
        errors.InvalidSubnetIDNotFound,
        lambda tx, account, one: any(row.id == one for row in network.subnets_of(tx, account)),
    ),
    "vpc": Kind(
        "vpc",
        errors.InvalidVpcIDNotFound,
        lambda tx, account, one: any(row.id == one for row in network.vpcs_of(tx, account)),
    ),
}


def _kind(resource_id: str) -> Kind:
    """What an id is of. Raises InvalidID for one of nothing that this cloud has."""
    prefix = resource_id.partition("-")[0]
    kind = _KINDS.get(prefix)
    if kind is None or not is_id(prefix, resource_id):
        raise errors.InvalidID(resource_id)
    return kind


def _resources(req: Mapping[str, Any]) -> list[tuple[str, Kind]]:
    ids: Sequence[str] = req["Resources"]
    if not ids:
        raise MissingParameter("resourceIdSet")
    if len(ids) > RESOURCES_AT_ONCE:
        raise InvalidParameterValue(f"At most {RESOURCES_AT_ONCE} resources may be given at once.")
    return [(one, _kind(one)) for one in dict.fromkeys(ids)]


def _check_there(tx: Tx, account: str, resources: Sequence[tuple[str, Kind]]) -> None:
    for resource_id, kind in resources:
        if not kind.has(tx, account, resource_id):
            raise kind.error(resource_id)


def _touch(tx: Tx, account: str, resources: Sequence[tuple[str, Kind]]) -> None:
    """The tags of an interface are shown with its instance too."""
    nics = [resource_id for resource_id, kind in resources if kind.type == "network-interface"]
    shown = {one.instance_id for one in interfaces.by_ids(tx, account, nics)} if nics else set()
    instances.touch(tx, account, [one for one in shown if one])


def _describe(tx: Tx, resources: Sequence[tuple[str, Kind]]) -> dict[str, str]:
    """Instances that show their tags to their guests have another description now: which, with their zones."""
    ids = [resource_id for resource_id, kind in resources if kind.type == "instance"]
    changed = [
        wishes.describe(row, details)
        for row in instances.find(tx, ids)
        if (details := instances.decode(row.details)).metadata.tags == "enabled"
    ]
    instances.save_described(tx, changed)
    return {row.id: row.zone for row in changed}


@ec2.action("CreateTags", accepts=("Resources", "Tags", "DryRun"))
async def create_tags(call: Call, req: Mapping[str, Any]) -> None:
    """Add tags to every resource named, or to none."""
    resources, wanted = _resources(req), tagging.checked(req["Tags"])
    if not wanted:
        raise MissingParameter("tagSet")

    def work(tx: Tx) -> dict[str, str]:
        _check_there(tx, call.account, resources)
        for resource_id, kind in resources:
            tags.put(tx, call.account, resource_id, kind.type, wanted)
        _touch(tx, call.account, resources)
        described = _describe(tx, resources)
        if described:
            tagging.check_shown_to_guests(wanted)
        return described

    call.cloud.clusters.hint(await call.change(work, dict[str, str]))


@ec2.action("DeleteTags", accepts=("Resources", "Tags", "DryRun"))
async def delete_tags(call: Call, req: Mapping[str, Any]) -> None:
    """Take tags off: by key; by key and value where one is given, the empty one too; or all."""
    resources, given = _resources(req), req.get("Tags", ())
    for tag in given:
        tagging.check_key(tag.get("Key"))
    keys = {tag["Key"]: tag.get("Value") for tag in given}

    def work(tx: Tx) -> dict[str, str]:
        _check_there(tx, call.account, resources)
        for resource_id, _ in resources:
            if keys:
                tags.remove(tx, call.account, resource_id, keys)
            else:
                tags.remove_all(tx, call.account, resource_id)
        _touch(tx, call.account, resources)
        return _describe(tx, resources)

    call.cloud.clusters.hint(await call.change(work, dict[str, str]))


_LOOKS: Looks = {
    "key": member("Key"),
    "resource-id": member("ResourceId"),
    "resource-type": member("ResourceType"),
    "tag:": nothing,
    "value": member("Value"),
}


class _TagsSought(Sought):
    """`tag:<key>` asks of a tag itself what it asks of a resource elsewhere."""

    def passes(self, shown: Mapping[str, Any]) -> bool:
        return all(self._one_passes(each, shown) for each in self.filters)

    def _one_passes(self, each: Filter, shown: Mapping[str, Any]) -> bool:
        if each.tag_key is not None:
            return bool(shown["Key"] == each.tag_key) and each.matches(shown["Value"])
        return each.matches(_LOOKS[each.name](shown))


@ec2.action("DescribeTags", accepts=("Filters", "MaxResults", "NextToken", "DryRun"), filters=_LOOKS)
async def describe_tags(call: Call, req: DescribeTagsRequestTypeDef) -> Result:
    """The account's tags, by resource and key, a thousand a page."""
    sought, page = _TagsSought(req.get("Filters"), _LOOKS), page_of(call, req, default=1000)

    def work(tx: Tx) -> Listing:
        return listed(
            tx, page, fetch=_narrowed(tx, call.account, sought), show=_shown, key=_key, sought=sought
        )

    return (await call.cloud.db.read(work)).answer(call, "Tags")


def _key(tag: Tag) -> str:
    return f"{tag.resource_id}{_BETWEEN}{tag.key}"


def _narrowed(tx: Tx, account: str, sought: Sought) -> Callable[[Tx, str, int], Sequence[Tag]]:
    ids = sought.exact("resource-id")
    if ids is not None:
        return slice_of(sorted(tags.rows_of(tx, account, ids), key=_key), _key)

    def fetch(tx: Tx, after: str, size: int) -> Sequence[Tag]:
        resource_id, _, key = after.partition(_BETWEEN)
        return tags.page(tx, account, (resource_id, key), size)

    return fetch


def _shown(_: Tx, rows: Sequence[Tag]) -> list[Result]:
    return [
        {"Key": tag.key, "ResourceId": tag.resource_id, "ResourceType": tag.resource_type, "Value": tag.value}
        for tag in rows
    ]
