"""Lifecycle: what a bucket's rules end is ended.

Everything ends at a midnight, so a bucket is walked once a day, and again when its rules have changed.
What was written between the look and the deletion is not deleted: each deletion names what it means.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime

import structlog

from mallee.walrus.api.settings.lifecycle_rules import (
    LIFECYCLE,
    Rule,
    aborting,
    midnight_after,
    rules_of,
)
from mallee.walrus.errors import S3Error
from mallee.walrus.store import Bucket, Conditions, Doomed, Listed, Store

_PAGE = 1000
_log = structlog.get_logger()


class Lifecycle:
    """Ends what has come to its end, in every bucket that has rules."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._done: dict[int, tuple[date, bytes]] = {}

    async def one_pass(self) -> None:
        """Each bucket once a day and after a change of its rules."""
        after, seen = "", set[int]()
        while buckets := await self._store.every_bucket(after, _PAGE):
            for bucket in buckets:
                seen.add(bucket.number)
                document = bucket.config.get(LIFECYCLE)
                now = self._store.ground.clock.now()
                if document and self._done.get(bucket.number) != (now.date(), document):
                    await self._end(bucket, now)
                    self._done[bucket.number] = (now.date(), document)
            after = buckets[-1].name
        for number in self._done.keys() - seen:
            del self._done[number]

    async def _end(self, bucket: Bucket, now: datetime) -> None:
        rules = rules_of(bucket)
        if any(rule.abort_days is not None for rule in rules):
            await self._abort(bucket, now)
        rules = tuple(rule for rule in rules if rule.ends_versions)
        if not rules:
            return
        ended = 0
        doomed: list[Doomed] = []
        async for versions in self._keys(bucket):
            doomed += await self._due(bucket, rules, versions, now)
            if len(doomed) >= _PAGE // 2:
                ended += await self._delete(bucket, doomed)
                doomed = []
        ended += await self._delete(bucket, doomed)
        if ended:
            _log.info("lifecycle ended objects", bucket=bucket.name, versions=ended)

    async def _delete(self, bucket: Bucket, doomed: Sequence[Doomed]) -> int:
        """What is locked or has been written anew stays."""
        done = 0
        for start in range(0, len(doomed), _PAGE):
            batch = doomed[start : start + _PAGE]
            results = await self._store.delete_many(bucket.name, batch, owner=bucket.owner)
            done += sum(not isinstance(one, S3Error) for one in results)
        return done

    async def _keys(self, bucket: Bucket) -> AsyncIterator[list[Listed]]:
        """The versions of one key after the other, the newest first."""
        after, version, held = "", "", list[Listed]()
        while True:
            page = await self._store.list_versions(
                bucket.name, after=after, after_version=version, limit=_PAGE
            )
            for entry in page.entries:
                if held and held[0].key != entry.key:
                    yield held
                    held = []
                held.append(entry)
            if not page.truncated:
                break
            after, version = page.next_key, page.next_version
        if held:
            yield held

    async def _due(
        self, bucket: Bucket, rules: Sequence[Rule], versions: Sequence[Listed], now: datetime
    ) -> list[Doomed]:
        newest, *others = versions
        found = []
        if newest.is_delete_marker:
            if not others and any(_clears(rule, newest, now) for rule in rules):
                found.append(Doomed(newest.key, newest.version_id))
        elif await self._expired(bucket, rules, newest, now):
            # The deletion must not meet a newer object: the moment of writing is named with the etag.
            moment = _moment(newest.modified_ms).replace(microsecond=0)
            found.append(Doomed(newest.key, None, Conditions(if_match=newest.etag, modified=moment)))
        for place, (newer, old) in enumerate(zip(versions, others, strict=False)):
            for rule in rules:
                if (
                    rule.noncurrent_days is not None
                    and place >= rule.keep_newer
                    and midnight_after(_moment(newer.modified_ms), rule.noncurrent_days) <= now
                    and await self._covers(bucket, rule, old)
                ):
                    found.append(Doomed(old.key, old.version_id))
                    break
        return found

    async def _expired(self, bucket: Bucket, rules: Sequence[Rule], entry: Listed, now: datetime) -> bool:
        for rule in rules:
            ends = rule.expires(_moment(entry.modified_ms))
            if ends is not None and ends <= now and await self._covers(bucket, rule, entry):
                return True
        return False

    async def _covers(self, bucket: Bucket, rule: Rule, entry: Listed) -> bool:
        if not rule.tags or not rule.covers(entry.key, dict(rule.tags), entry.size):
            return rule.covers(entry.key, {}, entry.size)
        try:
            version = await self._store.find(bucket.name, entry.key, entry.version_id)
        except S3Error:
            return False
        return rule.covers(entry.key, version.tags, entry.size)

    async def _abort(self, bucket: Bucket, now: datetime) -> None:
        after, upload, ended = "", "", 0
        while True:
            page = await self._store.list_uploads(bucket.name, after=after, after_upload=upload, limit=_PAGE)
            for one in page.uploads:
                ends = aborting(bucket, one.key, one.initiated)
                if ends is not None and ends[0] <= now:
                    ended += await self._abort_one(bucket, one.key, one.upload_id)
            if not page.truncated:
                break
            after, upload = page.next_key, page.next_upload
        if ended:
            _log.info("lifecycle aborted uploads", bucket=bucket.name, uploads=ended)

    async def _abort_one(self, bucket: Bucket, key: str, upload_id: str) -> bool:
        try:
            await self._store.abort_upload(bucket.name, key, upload_id)
        except S3Error:
            return False  # completed or aborted meanwhile
        return True


def _clears(rule: Rule, marker: Listed, now: datetime) -> bool:
    """Whether a delete marker that hides nothing is removed: when asked for, or when it is as old as its key may be."""
    if (
        rule.tags
        or rule.larger is not None
        or rule.smaller is not None
        or not marker.key.startswith(rule.prefix)
    ):
        return False
    ends = rule.expires(_moment(marker.modified_ms))
    return rule.markers or (ends is not None and ends <= now)


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
