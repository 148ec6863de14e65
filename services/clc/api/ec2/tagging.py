"""Tags as requests carry them: what is allowed, and how an answer shows them.

Source: "Tag restrictions" of the EC2 user guide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from mallee.aws.errors import InvalidParameterValue, MissingParameter
from mallee.clc.db.tags import TAGS_PER_RESOURCE
from mallee.clc.errors import TagLimitExceeded
from mallee.domain.guest import is_path

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import TagSpecificationUnionTypeDef, TagTypeDef

KEY_LENGTH = 128
VALUE_LENGTH = 256


def checked(given: Sequence[TagTypeDef]) -> dict[str, str]:
    """Tags to be set, by key; a tag without a value has the empty one.

    Raises:
        InvalidParameterValue: a key or value too long, empty, reserved or given twice.
        TagLimitExceeded: more than a resource may have.
    """
    tags: dict[str, str] = {}
    for tag in given:
        key, value = tag.get("Key"), tag.get("Value") or ""
        check_key(key)
        if len(value) > VALUE_LENGTH:
            raise InvalidParameterValue(f"Tag value exceeds the maximum length of {VALUE_LENGTH} characters")
        if key in tags:
            raise InvalidParameterValue(f"Duplicate tag key '{key}' specified.")
        tags[key or ""] = value
    if len(tags) > TAGS_PER_RESOURCE:
        raise TagLimitExceeded(
            f"The maximum number of Tags for a resource ({TAGS_PER_RESOURCE}) was reached."
        )
    return tags


def check_key(key: str | None) -> None:
    """Raises InvalidParameterValue for a key that no user may set or remove."""
    if not key:
        raise InvalidParameterValue("Tag key cannot be null or empty")
    if len(key) > KEY_LENGTH:
        raise InvalidParameterValue(f"Tag key exceeds the maximum length of {KEY_LENGTH} characters")
    if key.lower().startswith("aws:"):
        raise InvalidParameterValue("Tag keys starting with 'aws:' are reserved for internal use")


def check_shown_to_guests(keys: Iterable[str]) -> None:
    """A tag that an instance shows to its guest is a path there.

    Raises:
        InvalidParameterValue: naming a key that cannot be one.
    """
    for key in keys:
        if not is_path(key):
            raise InvalidParameterValue(
                f"'{key}' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\-_+=,.@:]{{1,255}}), "
                "and must not be a reserved name ('.', '..', '_index')"
            )


def specified(
    specifications: Sequence[TagSpecificationUnionTypeDef], *types: str
) -> dict[str, dict[str, str]]:
    """TagSpecifications by resource type, empty for a type without.

    Args:
        specifications: as the request has them.
        types: the resource types that the action makes.

    Raises:
        InvalidParameterValue: another type, a type given twice, or as `checked`.
    """
    found: dict[str, dict[str, str]] = {}
    for one in specifications:
        kind = one.get("ResourceType")
        if kind is None:
            raise MissingParameter("TagSpecification.ResourceType")
        if kind not in types:
            raise InvalidParameterValue(f"'{kind}' is not a valid taggable resource type for this operation.")
        if kind in found:
            raise InvalidParameterValue(f"Duplicate tag specification for resource type '{kind}'.")
        if not one.get("Tags"):
            raise InvalidParameterValue("Tag specification must have at least one tag")
        found[kind] = checked(one["Tags"])
    return {kind: found.get(kind, {}) for kind in types}


def shown(tags: Mapping[str, str]) -> list[TagTypeDef]:
    """Tags as an answer lists them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]
