"""Where objects lie is the operator's choice."""

from __future__ import annotations

from pathlib import Path

from mallee.kernel.config import load
from mallee.walrus.config import WalrusConfig


def test_another_store_may_hold_the_objects(tmp_path: Path) -> None:
    file = tmp_path / "mallee.toml"
    file.write_text(
        '[walrus.s3]\nendpoint = "ceph:7480"\nbucket = "objects"\naccess_key = "k"\nsecret_key = "hidden"\n'
    )
    place = load(WalrusConfig, "walrus", file, {"MALLEE_WALRUS_PORT": "1"}).s3
    assert place is not None
    assert (place.endpoint, place.secret_key.reveal(), place.secure) == ("ceph:7480", "hidden", True)
    assert "hidden" not in repr(place)
