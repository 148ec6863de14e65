"""`mallee configure` changes what is Mallee's in ~/.aws, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import botocore.session
import pytest

from mallee.cli import profile
from mallee.cli.client import EC2_VERSION
from mallee.cli.profile import Places
from mallee.cli.state import Access
from mallee.kernel.errors import Fault

ACCESS = Access(
    endpoint="http://127.0.0.1:8773",
    s3_endpoint="http://127.0.0.1:8774",
    region="mallee-1",
    zones=["mallee-1a"],
    account_id="000000000001",
    access_key_id="AKIAEXAMPLE",
    secret_access_key="example/secret",
    pids={},
    state="/nowhere",
)
OTHERS = "[default]\nregion = eu-west-1  # mine\n\n[profile work]\nrole_arn = x\n"


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places.of({"HOME": str(tmp_path)})


def test_a_profile_that_botocore_reads(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    profile.write(ACCESS, places)

    for name in ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(places.config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(places.credentials))
    session = botocore.session.Session(profile="mallee")
    session.get_component("data_loader").search_paths[:0] = [str(places.models)]
    ec2 = session.create_client("ec2", api_version=EC2_VERSION)
    assert ec2.meta.endpoint_url == ACCESS.endpoint
    assert ec2.meta.region_name == "mallee-1"
    assert session.get_credentials().secret_key == "example/secret"
    assert session.create_client("s3").meta.endpoint_url == ACCESS.endpoint
    assert session.create_client("sts").meta.endpoint_url == ACCESS.endpoint
    assert "instance_migration_completed" in ec2.waiter_names
    assert ec2.can_paginate("describe_instance_migrations")
    assert ec2.can_paginate("get_network_insights_access_scope_analysis_findings")


def test_everything_else_in_the_files_stays_byte_for_byte(places: Places) -> None:
    places.config.parent.mkdir()
    places.config.write_text(OTHERS)
    places.credentials.write_text("[default]\naws_access_key_id = AKIAWORK")

    profile.write(ACCESS, places)
    assert places.config.read_text().startswith(OTHERS)
    profile.write(ACCESS, places)
    assert places.config.read_text().count("[profile mallee]") == 1

    profile.remove(places)
    assert places.config.read_text().strip() == OTHERS.strip()
    assert places.credentials.read_text().strip() == "[default]\naws_access_key_id = AKIAWORK"
    assert not places.models.exists()


def test_secrets_are_for_their_owner_alone(places: Places) -> None:
    profile.write(ACCESS, places)

    assert places.credentials.stat().st_mode & 0o777 == 0o600


def _foreign(places: Places, operations: dict[str, object]) -> Path:
    path = places.models / "ec2" / EC2_VERSION / "service-2.sdk-extras.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"version": 1.0, "merge": {"operations": operations}}))
    return path


def test_another_vendors_extension_is_joined_and_left_behind(places: Places) -> None:
    theirs = {"OtherThing": {"name": "OtherThing", "http": {"method": "POST", "requestUri": "/"}}}
    path = _foreign(places, theirs)

    profile.write(ACCESS, places)
    assert {"OtherThing", "MigrateInstances"} <= set(json.loads(path.read_text())["merge"]["operations"])

    profile.remove(places)
    assert json.loads(path.read_text())["merge"] == {"operations": theirs}


def test_what_both_vendors_define_alike_stays_the_others(places: Places) -> None:
    ours = json.loads((profile.extras() / "ec2" / EC2_VERSION / "service-2.sdk-extras.json").read_text())
    theirs = {"CancelInstanceMigration": ours["merge"]["operations"]["CancelInstanceMigration"]}
    path = _foreign(places, theirs)

    profile.write(ACCESS, places)
    profile.remove(places)

    assert json.loads(path.read_text())["merge"] == {"operations": theirs}


def test_a_name_with_two_meanings_is_refused_and_nothing_changes(places: Places) -> None:
    path = _foreign(places, {"MigrateInstances": {"name": "MigrateInstances", "http": {"method": "GET"}}})
    before = path.read_text()

    with pytest.raises(Fault, match="MigrateInstances"):
        profile.write(ACCESS, places)

    assert path.read_text() == before
    assert not places.config.exists()


def test_a_file_that_botocore_cannot_load_is_never_put_in_place(places: Places) -> None:
    path = _foreign(places, {"OtherThing": {"name": "OtherThing"}})
    path.with_name("waiters-2.sdk-extras.json").write_text("{")

    with pytest.raises(Fault, match="not JSON"):
        profile.write(ACCESS, places)

    assert not places.config.exists()
    assert "MigrateInstances" not in path.read_text()


def test_an_older_part_of_ours_is_replaced(places: Places) -> None:
    profile.write(ACCESS, places)
    name = Path("ec2") / EC2_VERSION / "service-2.sdk-extras.json"
    for path in (places.models / name, places.models / ".mallee" / name):
        text = json.loads(path.read_text())
        text["merge"]["operations"]["AncientOperation"] = {"name": "AncientOperation"}
        path.write_text(json.dumps(text))

    profile.write(ACCESS, places)

    assert "AncientOperation" not in (places.models / name).read_text()
