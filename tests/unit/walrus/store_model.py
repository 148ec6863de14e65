"""What the store must do, in a few lines: a dictionary of lists.

`versions[key]` is a key's versions, newest first; a version is its id and its bytes, None for a
delete marker.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

NULL = "null"


class Kept(NamedTuple):
    version_id: str
    data: bytes | None


@dataclass
class Model:
    versioning: str = ""
    versions: dict[str, list[Kept]] = field(default_factory=dict)

    def put(self, key: str, data: bytes | None, version_id: str) -> None:
        """A new version, or a marker, that the store has given `version_id`."""
        kept = self.versions.setdefault(key, [])
        if self.versioning != "Enabled":
            assert version_id == NULL
            kept[:] = [version for version in kept if version.version_id != NULL]
        else:
            assert version_id != NULL
        kept.insert(0, Kept(version_id, data))

    def delete(self, key: str, version_id: str) -> None:
        if self.versioning:
            self.put(key, None, version_id)
        else:
            self.versions.pop(key, None)

    def delete_version(self, key: str, version_id: str) -> None:
        kept = [version for version in self.versions.get(key, []) if version.version_id != version_id]
        self.versions[key] = kept
        if not kept:
            del self.versions[key]

    def visible(self, key: str) -> bytes | None:
        kept = self.versions.get(key)
        return kept[0].data if kept else None

    def visible_keys(self) -> list[str]:
        return sorted((key for key in self.versions if self.visible(key) is not None), key=str.encode)

    def all_versions(self) -> list[tuple[str, str, bool, bool]]:
        """Key, id, whether newest, whether a marker; as a listing of versions orders them."""
        return [
            (key, version.version_id, index == 0, version.data is None)
            for key in sorted(self.versions, key=str.encode)
            for index, version in enumerate(self.versions[key])
        ]

    def usage(self) -> tuple[int, int]:
        kept = [version.data for each in self.versions.values() for version in each]
        sizes = [len(data) for data in kept if data is not None]
        return len(sizes), sum(sizes)


def rolled_up(keys: list[str], prefix: str, delimiter: str, after: str) -> list[tuple[str, bool]]:
    """Keys and common prefixes (True) of a listing that is one page, in order."""
    found: list[tuple[str, bool]] = []
    for key in keys:
        if not key.startswith(prefix) or key.encode() <= after.encode():
            continue
        at = key.find(delimiter, len(prefix)) if delimiter else -1
        entry = (key, False) if at < 0 else (key[: at + len(delimiter)], True)
        if entry not in found[-1:] and not (entry[1] and entry[0] == after):
            found.append(entry)
    return found
