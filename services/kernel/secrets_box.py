"""Secrets at rest: sealed in the database, the key in a file outside it.

Whoever steals the database alone, or a backup of it, has no secret. Keys have versions and a
sealed text names its own, so a new key is taken into use at once and old texts are sealed again
at leisure.
"""

from __future__ import annotations

import base64
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from mallee.kernel.entropy import Entropy
from mallee.kernel.errors import Fault, Kind
from mallee.kernel.state_folder import create, replace

if TYPE_CHECKING:
    from cryptography.fernet import Fernet


class Secret(str):
    """A string that shows itself to nobody who does not ask: `reveal()` gives the plain one.

    It is still a `str` for what computes with it (`encode`, comparison); printing, formatting and
    logging give a mask.
    """

    __slots__ = ()

    def reveal(self) -> str:
        return str.__str__(self)

    def __repr__(self) -> str:
        return "Secret(...)"

    def __str__(self) -> str:
        return "[secret]"

    def __format__(self, _: str) -> str:
        return "[secret]"


def _written(keys: dict[int, bytes]) -> bytes:
    return "".join(f"{number}:{key.decode()}\n" for number, key in keys.items()).encode()


class SecretsBox:
    """Seals and unseals by the keys of one file."""

    def __init__(self, path: Path, keys: dict[int, bytes], entropy: Entropy) -> None:
        from cryptography.fernet import Fernet

        self._path = path
        self._entropy = entropy
        self._raw = keys
        self._keys: dict[int, Fernet] = {version: Fernet(key) for version, key in keys.items()}

    @classmethod
    def open(cls, path: Path, entropy: Entropy) -> SecretsBox:
        """The box of the key file at `path`, made with a first key if there is none (blocks).

        Faults: FORBIDDEN if others than its owner may read the file; INVALID if it is damaged.
        """
        if not path.exists():
            # Whoever shares the file may be making it at this moment: one of them is first, and all use his.
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            create(path, _written({1: base64.urlsafe_b64encode(entropy.token(32))}))
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise Fault(
                Kind.FORBIDDEN,
                f"The key file {path} is not used.",
                why="Others than its owner may read it.",
                fix=f"Run chmod 600 {path}, and rotate the key if somebody may have read it.",
                code="key-file-open",
            )
        try:
            numbered = [line.split(":", 1) for line in path.read_text().splitlines()]
            keys = {int(version): key.encode() for version, key in numbered}
            max(keys)  # an empty file is a damaged one
            return cls(path, keys, entropy)
        except ValueError as error:
            raise Fault(
                Kind.INVALID,
                f"The key file {path} cannot be read.",
                why=f"It does not hold version:key lines ({error}).",
                fix="Restore it from a backup: without it the sealed secrets are lost.",
                code="key-file-damaged",
            ) from error

    def rotate(self) -> int:
        """Take a new key into use and keep the old ones for unsealing; its version."""
        from cryptography.fernet import Fernet

        version = max(self._raw, default=0) + 1
        raw = {**self._raw, version: base64.urlsafe_b64encode(self._entropy.token(32))}
        # The file first: a secret sealed by a key that a crash then loses is lost too.
        replace(self._path, _written(raw))
        self._raw = raw
        self._keys[version] = Fernet(raw[version])
        return version

    def seal(self, secret: str) -> str:
        """`version:ciphertext`, by the newest key."""
        version = max(self._keys)
        # Fernet would stamp the time: nobody asks for it, and only the clock may tell it.
        return f"{version}:{self._keys[version].encrypt_at_time(secret.encode(), 0).decode()}"

    def unseal(self, sealed: str) -> Secret:
        """What `seal` was given. Fault INTERNAL if its key is gone or the text was changed."""
        from cryptography.fernet import InvalidToken

        version, _, text = sealed.partition(":")
        try:
            return Secret(self._keys[int(version)].decrypt(text.encode()).decode())
        except (ValueError, KeyError, InvalidToken) as error:
            raise Fault(
                Kind.INTERNAL,
                "A sealed secret cannot be opened.",
                why=f"Key version {version or '?'} is missing from {self._path}, or the text was changed.",
                fix="Restore the key file that belongs to this database.",
                code="secret-unreadable",
            ) from error

    def is_current(self, sealed: str) -> bool:
        """False if a newer key should seal this again."""
        return sealed.startswith(f"{max(self._keys)}:")
