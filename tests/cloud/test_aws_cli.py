"""aws-cli as people type it: every family, its shorthand, its pages, its errors and exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cloud.clouds import INSTANCE_TYPE, TestCloud

REFUSED = 255  # the exit code of aws-cli 1 when the service says no; version 2 says 254


def aws(cloud: TestCloud, *words: str, code: int = 0) -> Any:
    """One command of aws-cli: its output as JSON, or what it says on standard error."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name("aws")), *words, "--output", "json"],
        env=cloud.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else done.stderr


def test_keys(cloud: TestCloud, tmp_path: Path) -> None:
    public = tmp_path / "key.pub"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    made = aws(cloud, "ec2", "import-key-pair", "--key-name", "cli", "--public-key-material", f"fileb://{public}",
               "--tag-specifications", "ResourceType=key-pair,Tags=[{Key=what,Value=käse}]")  # fmt: skip
    said = subprocess.run(
        ["ssh-keygen", "-l", "-E", "sha256", "-f", str(public)], capture_output=True, text=True, check=True
    )
    assert made["KeyFingerprint"].rstrip("=") == said.stdout.split()[1].removeprefix("SHA256:")
    (seen,) = aws(cloud, "ec2", "describe-key-pairs", "--filters", "Name=tag:what,Values=k?se*",
                  "--include-public-key")["KeyPairs"]  # fmt: skip
    assert seen["PublicKey"].split()[:2] == public.read_text().split()[:2]
    said = aws(cloud, "ec2", "delete-key-pair", "--key-name", "cli", "--dry-run", code=REFUSED)
    assert "(DryRunOperation) when calling the DeleteKeyPair operation" in said
    aws(cloud, "ec2", "delete-key-pair", "--key-name", "cli")
    assert "InvalidKeyPair.NotFound" in aws(
        cloud, "ec2", "describe-key-pairs", "--key-names", "cli", code=REFUSED
    )


def test_a_group_by_its_shorthand(cloud: TestCloud) -> None:
    group = aws(cloud, "ec2", "create-security-group", "--group-name", "cli", "--description", "of the shell")
    where = ("--group-id", group["GroupId"])
    for words in (
        ("--protocol", "tcp", "--port", "22", "--cidr", "10.0.0.0/8"),
        ("--protocol", "icmp", "--port", "-1", "--cidr", "0.0.0.0/0"),
        ("--protocol", "tcp", "--port", "8000-8080", "--source-group", group["GroupId"]),
        ("--ip-permissions", "IpProtocol=udp,FromPort=53,ToPort=53,Ipv6Ranges=[{CidrIpv6=::/0,Description=dns}]"),
    ):  # fmt: skip
        aws(cloud, "ec2", "authorize-security-group-ingress", *where, *words)
    assert "InvalidPermission.Duplicate" in aws(
        cloud, "ec2", "authorize-security-group-ingress", *where, *words, code=REFUSED
    )
    rules = aws(cloud, "ec2", "describe-security-group-rules",
                "--filters", f"Name=group-id,Values={group['GroupId']}")["SecurityGroupRules"]  # fmt: skip
    assert len(rules) == 5
    ids = [rule["SecurityGroupRuleId"] for rule in rules if not rule["IsEgress"]]
    aws(cloud, "ec2", "revoke-security-group-ingress", *where, "--security-group-rule-ids", *ids)
    aws(cloud, "ec2", "delete-security-group", *where)
    assert "InvalidGroup.NotFound" in aws(cloud, "ec2", "delete-security-group", *where, code=REFUSED)


def test_images_tags_and_places(cloud: TestCloud, tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(1 << 20))
    aws(cloud, "s3api", "create-bucket", "--bucket", "of-the-cli")
    aws(cloud, "s3api", "put-object", "--bucket", "of-the-cli", "--key", disk.name, "--body", str(disk))
    where = ("--image-location", f"of-the-cli/{disk.name}")
    image = aws(cloud, "ec2", "register-image", "--name", "cli image", *where)
    aws(
        cloud,
        "ec2",
        "create-tags",
        "--resources",
        image["ImageId"],
        "--tags",
        "Key=Größe,Value=",
        "Key=a,Value=b=c",
    )
    tags = aws(cloud, "ec2", "describe-tags", "--filters", f"Name=resource-id,Values={image['ImageId']}")[
        "Tags"
    ]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"Größe": "", "a": "b=c"}
    aws(cloud, "ec2", "delete-tags", "--resources", image["ImageId"], "--tags", "Key=a,Value=x", "Key=Größe")
    found = aws(cloud, "ec2", "describe-images", "--owners", "self", "--filters", "Name=tag-key,Values=a",
                "--query", "Images[].[Name,Tags[0].Value]")  # fmt: skip
    assert found == [["cli image", "b=c"]]
    aws(cloud, "ec2", "deregister-image", "--image-id", image["ImageId"])

    zones = aws(cloud, "ec2", "describe-availability-zones", "--query", "AvailabilityZones[].ZoneName")
    assert zones == list(cloud.access.zones)
    (region,) = aws(cloud, "ec2", "describe-regions")["Regions"]
    assert (region["RegionName"], "http://" + region["Endpoint"]) == (
        cloud.access.region,
        cloud.access.endpoint,
    )


def test_users_and_who_one_is(cloud: TestCloud) -> None:
    assert aws(cloud, "sts", "get-caller-identity")["Arn"] == f"arn:aws:iam::{cloud.access.account_id}:root"
    aws(
        cloud, "iam", "create-user", "--user-name", "ada", "--path", "/staff/", "--tags", "Key=team,Value=one"
    )
    key = aws(cloud, "iam", "create-access-key", "--user-name", "ada")["AccessKey"]
    aws(cloud, "iam", "update-access-key", "--user-name", "ada", "--access-key-id", key["AccessKeyId"],
        "--status", "Inactive")  # fmt: skip
    (seen,) = aws(cloud, "iam", "list-access-keys", "--user-name", "ada")["AccessKeyMetadata"]
    assert (seen["Status"], seen["AccessKeyId"]) == ("Inactive", key["AccessKeyId"])
    assert "DeleteConflict" in aws(cloud, "iam", "delete-user", "--user-name", "ada", code=REFUSED)
    aws(cloud, "iam", "delete-access-key", "--user-name", "ada", "--access-key-id", key["AccessKeyId"])
    aws(cloud, "iam", "delete-user", "--user-name", "ada")
    assert "NoSuchEntity" in aws(cloud, "iam", "get-user", "--user-name", "ada", code=REFUSED)


def test_a_launch_by_names_and_files(cloud: TestCloud, tmp_path: Path) -> None:
    script = tmp_path / "boot.sh"
    script.write_text("#!/bin/sh\necho grüße\n")
    words = ("--image-id", cloud.image(), "--instance-type", INSTANCE_TYPE, "--security-groups", "default",
             "--user-data", f"file://{script}", "--placement", f"AvailabilityZone={cloud.access.zones[-1]}",
             "--tag-specifications", "ResourceType=instance,Tags=[{Key=Name,Value=cli}]",
             "--count", "6")  # fmt: skip
    aws(cloud, "ec2", "run-instances", *words)
    found = aws(
        cloud, "ec2", "describe-instances", "--filters", "Name=tag:Name,Values=cli", "--page-size", "5"
    )
    seen = [i["InstanceId"] for r in found["Reservations"] for i in r["Instances"]]
    assert len(seen) == len(set(seen)) == 6
    assert len(found["Reservations"]) == 2, "pages count instances: one reservation lies on two of them"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("ec2", "describe-volumes"), "UnsupportedOperation"),
        (("ec2", "describe-tags", "--max-items", "5", "--page-size", "4"), "InvalidParameterValue"),
        (("ec2", "describe-subnets", "--filters", "Name=colour,Values=red"), "The filter 'colour' is invalid"),
        (("iam", "list-users", "--max-items", "5", "--page-size", "2000"), "ValidationError"),
    ],
)  # fmt: skip
def test_a_refusal_is_told(cloud: TestCloud, words: tuple[str, ...], said: str) -> None:
    assert said in aws(cloud, *words, code=REFUSED)
