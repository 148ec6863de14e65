"""The rules of a bucket's lifecycle: read from its document, applied to versions and uploads.

Source: "Managing the lifecycle of objects". Times are rounded up to the next midnight in UTC, as S3 does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec

from mallee.aws.protocol.scalars import http_date
from mallee.walrus.store import Bucket, Version

LIFECYCLE: Final = "lifecycle"


class Rule(NamedTuple):
    """One rule that is enabled.

    Attributes:
        days, date: when current versions expire; None for never.
        markers: remove delete markers that hide nothing.
        noncurrent_days: after which versions that were replaced are removed.
        keep_newer: but this many of them are kept.
        abort_days: after which open uploads are aborted.
    """

    id: str
    prefix: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    larger: int | None = None
    smaller: int | None = None
    days: int | None = None
    date: datetime | None = None
    markers: bool = False
    noncurrent_days: int | None = None
    keep_newer: int = 0
    abort_days: int | None = None

    @property
    def ends_versions(self) -> bool:
        """Whether it is about objects at all, not about uploads alone."""
        return (
            self.days is not None or self.date is not None or self.markers or self.noncurrent_days is not None
        )

    def covers(self, key: str, tags: Mapping[str, str], size: int) -> bool:
        """Whether the rule is for an object."""
        return (
            key.startswith(self.prefix)
            and all(tags.get(name) == value for name, value in self.tags)
            and (self.larger is None or size > self.larger)
            and (self.smaller is None or size < self.smaller)
        )

    def expires(self, modified: datetime) -> datetime | None:
        """When a current version of that age ends; None for never."""
        if self.date is not None:
            return self.date
        return None if self.days is None else midnight_after(modified, self.days)


def rules_of(home: Bucket) -> tuple[Rule, ...]:
    """The bucket's enabled rules."""
    document = home.config.get(LIFECYCLE)
    return _rules(document) if document else ()


@lru_cache(maxsize=256)
def _rules(document: bytes) -> tuple[Rule, ...]:
    kept = msgspec.json.decode(document)
    return tuple(_rule(raw) for raw in kept["Rules"] if raw.get("Status") == "Enabled")


def _rule(raw: Mapping[str, Any]) -> Rule:
    chosen = raw.get("Filter") or {}
    both = chosen.get("And") or {}
    tags = both.get("Tags") or ([chosen["Tag"]] if chosen.get("Tag") else [])
    ends, replaced = raw.get("Expiration") or {}, raw.get("NoncurrentVersionExpiration") or {}
    date = ends.get("Date")
    return Rule(
        id=raw.get("ID", ""),
        prefix=raw.get("Prefix") or chosen.get("Prefix") or both.get("Prefix") or "",
        tags=tuple((tag["Key"], tag.get("Value", "")) for tag in tags),
        larger=chosen.get("ObjectSizeGreaterThan", both.get("ObjectSizeGreaterThan")),
        smaller=chosen.get("ObjectSizeLessThan", both.get("ObjectSizeLessThan")),
        days=ends.get("Days"),
        date=datetime.fromisoformat(date).astimezone(UTC) if date else None,
        markers=bool(ends.get("ExpiredObjectDeleteMarker")),
        noncurrent_days=replaced.get("NoncurrentDays"),
        keep_newer=replaced.get("NewerNoncurrentVersions") or 0,
        abort_days=(raw.get("AbortIncompleteMultipartUpload") or {}).get("DaysAfterInitiation"),
    )


def midnight_after(moment: datetime, days: int) -> datetime:
    """The first midnight that lies `days` behind a moment."""
    due = moment.astimezone(UTC) + timedelta(days=days)
    midnight = due.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight if midnight == due else midnight + timedelta(days=1)


def ending(rules: Iterable[Rule], version: Version) -> tuple[datetime, str] | None:
    """When a current version ends and by which rule: the earliest wins."""
    ends = [
        (when, rule.id)
        for rule in rules
        if (when := rule.expires(version.modified)) is not None
        and rule.covers(version.key, version.tags, version.size)
    ]
    return min(ends, default=None)


def expiration(home: Bucket, version: Version) -> str | None:
    """The header `x-amz-expiration` of an object; None where no rule ends it."""
    if LIFECYCLE not in home.config or not version.is_latest:
        return None
    found = ending(rules_of(home), version)
    return f'expiry-date="{http_date(found[0])}", rule-id="{quote(found[1])}"' if found else None


def aborting(home: Bucket, key: str, initiated: datetime) -> tuple[datetime, str] | None:
    """When an open upload is aborted and by which rule; None for never."""
    ends = [
        (midnight_after(initiated, rule.abort_days), rule.id)
        for rule in rules_of(home)
        if rule.abort_days is not None and key.startswith(rule.prefix)
    ]
    return min(ends, default=None)
