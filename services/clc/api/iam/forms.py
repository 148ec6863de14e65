"""What IAM's names, paths, tags and page sizes must look like. Source: IAM's service model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from mallee.aws.errors import ValidationError

if TYPE_CHECKING:
    from types_boto3_iam.type_defs import TagTypeDef

_is_name = re.compile(r"[\w+=,.@-]+", re.ASCII).fullmatch
_is_path = re.compile(r"/|/[\x21-\x7f]+/").fullmatch
_is_prefix = re.compile(r"/[\x21-\x7f]*").fullmatch
_is_account_name = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?").fullmatch
_is_tag_text = re.compile(r"[\w\s.:/=+\-@]*").fullmatch

TAGS_PER_USER = 50


def user_name(name: str, limit: int = 64) -> str:
    """`limit` is 64 for a new name; an existing one may be asked for with 128."""
    if not 1 <= len(name) <= limit:
        raise ValidationError.at("userName", name, f"have length between 1 and {limit}")
    if not _is_name(name):
        raise ValidationError.at("userName", name, "satisfy regular expression pattern: [\\w+=,.@-]+")
    return name


def path(text: str) -> str:
    if len(text) > 512 or not _is_path(text):
        raise ValidationError.at("path", text, "begin and end with / and have at most 512 characters")
    return text


def path_prefix(text: str) -> str:
    if len(text) > 512 or not _is_prefix(text):
        raise ValidationError.at("pathPrefix", text, "begin with / and have at most 512 characters")
    return text


def account_name(name: str) -> str:
    if not _is_account_name(name):
        raise ValidationError.at(
            "accountName", name, "be 1 to 63 of a-z, 0-9 and -, with a letter or digit at both ends"
        )
    return name


def page_size(wanted: int | None) -> int:
    """MaxItems; 100 without."""
    if wanted is not None and not 1 <= wanted <= 1000:
        raise ValidationError.at("maxItems", wanted, "have value between 1 and 1000")
    return wanted or 100


def tags(given: Sequence[TagTypeDef]) -> dict[str, str]:
    """Tags by key; at most 50, each key once whatever its case."""
    if len(given) > TAGS_PER_USER:
        raise ValidationError.at("tags", f"{len(given)} tags", f"have length at most {TAGS_PER_USER}")
    for member, text, low, high in _texts(given):
        if not low <= len(text) <= high or not _is_tag_text(text):
            raise ValidationError.at(
                f"tags.{member}", text, f"have {low} to {high} letters, digits, spaces or _.:/=+-@"
            )
    if any(tag["Key"].lower().startswith("aws:") for tag in given):
        raise ValidationError("Tag keys may not begin with aws:, which is reserved.")
    if len({tag["Key"].lower() for tag in given}) < len(given):
        raise ValidationError("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
    return {tag["Key"]: tag["Value"] for tag in given}


def _texts(given: Sequence[TagTypeDef]) -> Iterable[tuple[str, str, int, int]]:
    for tag in given:
        yield "key", tag["Key"], 1, 128
        yield "value", tag["Value"], 0, 256
