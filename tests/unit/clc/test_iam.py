"""Users, access keys, accounts, and the keys as the verifier of signatures sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mallee.aws.context import Principal
from mallee.clc.keys import Keys
from tests.unit.clc.as_a_client import Client, refused
from tests.unit.clc.pretend_cloud import PretendCloud


def user_client(pretend: PretendCloud, user: dict[str, Any]) -> Client:
    account = user["Arn"].split(":")[4]
    return Client(pretend.cloud, Principal(account, user["Arn"], user["UserId"], "AKIAUSER"))


async def test_a_user_is_made_shown_and_forgotten(admin: Client) -> None:
    made = (await admin.iam("CreateUser", UserName="Ada", Path="/dev/", Tags=[{"Key": "a", "Value": "b"}]))[
        "User"
    ]
    assert made["Arn"] == f"arn:aws:iam::{admin.principal.account_id}:user/dev/Ada"
    assert made["UserId"].startswith("AIDA")
    assert len(made["UserId"]) == 20
    shown = (await admin.iam("GetUser", UserName="ada"))["User"]
    assert shown == made
    assert shown["Tags"] == [{"Key": "a", "Value": "b"}]
    with refused("EntityAlreadyExists", status=409):
        await admin.iam("CreateUser", UserName="ADA")
    await admin.iam("DeleteUser", UserName="Ada")
    with refused("NoSuchEntity", match="The user with name Ada cannot be found", status=404):
        await admin.iam("GetUser", UserName="Ada")


@pytest.mark.parametrize(
    ("operation", "parameters"),
    [
        ("CreateUser", {"UserName": "a" * 65}),
        ("CreateUser", {"UserName": "a b"}),
        ("CreateUser", {"UserName": "ada", "Path": "dev"}),
        ("CreateUser", {"UserName": "ada", "Tags": [{"Key": "x", "Value": ""}, {"Key": "X", "Value": ""}]}),
        ("CreateUser", {"UserName": "ada", "Tags": [{"Key": "aws:x", "Value": ""}]}),
        ("CreateUser", {"UserName": "ada", "Tags": [{"Key": "x", "Value": "v" * 257}]}),
        ("CreateUser", {"UserName": "ada", "Tags": [{"Key": str(n), "Value": ""} for n in range(51)]}),
        ("ListUsers", {"MaxItems": 0}),
        ("ListUsers", {"MaxItems": 1001}),
        ("ListUsers", {"PathPrefix": "x"}),
        ("ListUsers", {"Marker": "made-up"}),
        ("UpdateAccessKey", {"AccessKeyId": "AKIA" + "A" * 16, "Status": "Expired"}),
        ("DeleteAccessKey", {"AccessKeyId": "short"}),
        ("CreateAccount", {"AccountName": "No Such Name"}),
    ],
)
async def test_what_is_malformed_is_a_validation_error(
    admin: Client, operation: str, parameters: dict[str, Any]
) -> None:
    with refused("ValidationError", status=400):
        await admin.iam(operation, **parameters)


async def test_users_come_in_pages_and_by_path(admin: Client) -> None:
    for name in ("eve", "Ada", "bob", "cyd", "dan"):
        await admin.iam("CreateUser", UserName=name, Path="/x/" if name in {"bob", "dan"} else "/")
    first = await admin.iam("ListUsers", MaxItems=2)
    assert [user["UserName"] for user in first["Users"]] == ["Ada", "bob"]
    assert first["IsTruncated"] is True
    rest = await admin.iam("ListUsers", Marker=first["Marker"])
    assert [user["UserName"] for user in rest["Users"]] == ["cyd", "dan", "eve"]
    assert rest["IsTruncated"] is False
    assert "Marker" not in rest
    one = await admin.iam("ListUsers", PathPrefix="/x/", MaxItems=1)
    two = await admin.iam("ListUsers", PathPrefix="/x/", MaxItems=1, Marker=one["Marker"])
    assert [user["UserName"] for user in one["Users"] + two["Users"]] == ["bob", "dan"]


async def test_who_asks_is_shown_without_a_name(pretend: PretendCloud, admin: Client) -> None:
    root = (await admin.iam("GetUser"))["User"]
    assert root["Arn"] == admin.principal.arn
    assert "UserName" not in root
    made = (await admin.iam("CreateUser", UserName="ada"))["User"]
    ada = user_client(pretend, made)
    assert (await ada.iam("GetUser"))["User"] == made
    assert await ada.sts("GetCallerIdentity") == {
        "UserId": made["UserId"],
        "Account": admin.principal.account_id,
        "Arn": made["Arn"],
    }


async def test_a_user_has_two_keys_and_no_more(admin: Client) -> None:
    await admin.iam("CreateUser", UserName="ada")
    first = (await admin.iam("CreateAccessKey", UserName="ada"))["AccessKey"]
    second = (await admin.iam("CreateAccessKey", UserName="ada"))["AccessKey"]
    with refused("LimitExceeded", match="AccessKeysPerUser: 2", status=409):
        await admin.iam("CreateAccessKey", UserName="ada")
    listed = (await admin.iam("ListAccessKeys", UserName="ada"))["AccessKeyMetadata"]
    assert {key["AccessKeyId"] for key in listed} == {first["AccessKeyId"], second["AccessKeyId"]}
    assert all("SecretAccessKey" not in key for key in listed)
    with refused("DeleteConflict", status=409):
        await admin.iam("DeleteUser", UserName="ada")
    for key in (first, second):
        await admin.iam("DeleteAccessKey", UserName="ada", AccessKeyId=key["AccessKeyId"])
    await admin.iam("DeleteUser", UserName="ada")


async def test_a_key_is_found_at_once_and_refused_at_once(pretend: PretendCloud, admin: Client) -> None:
    keys = pretend.cloud.keys
    made = (await admin.iam("CreateAccessKey"))["AccessKey"]
    key_id = made["AccessKeyId"]
    found = await keys.find(key_id)
    assert found is not None
    assert found.secret == made["SecretAccessKey"]
    assert found.active
    assert found.principal.is_root
    await admin.iam("UpdateAccessKey", AccessKeyId=key_id, Status="Inactive")
    found = await keys.find(key_id)
    assert found is not None
    assert not found.active
    await admin.iam("UpdateAccessKey", AccessKeyId=key_id, Status="Active")
    assert (found := await keys.find(key_id))
    assert found.active
    await admin.iam("DeleteAccessKey", AccessKeyId=key_id)
    assert await keys.find(key_id) is None
    assert await keys.find("AKIANOBODY") is None


async def test_another_process_sees_a_change_within_a_second(pretend: PretendCloud, admin: Client) -> None:
    elsewhere = Keys(pretend.cloud.db, pretend.cloud.box, pretend.clock)
    made = (await admin.iam("CreateAccessKey"))["AccessKey"]
    assert await elsewhere.find(made["AccessKeyId"])
    await admin.iam("DeleteAccessKey", AccessKeyId=made["AccessKeyId"])
    await pretend.clock.advance(1.0)
    assert await elsewhere.find(made["AccessKeyId"]) is None


async def test_a_users_key_names_the_user(pretend: PretendCloud, admin: Client) -> None:
    user = (await admin.iam("CreateUser", UserName="ada", Path="/dev/"))["User"]
    made = (await admin.iam("CreateAccessKey", UserName="ada"))["AccessKey"]
    assert made["UserName"] == "ada"
    found = await pretend.cloud.keys.find(made["AccessKeyId"])
    assert found is not None
    assert found.principal == Principal(
        admin.principal.account_id, user["Arn"], user["UserId"], made["AccessKeyId"]
    )


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("*.db*"))


async def test_a_secret_is_sealed_at_rest_and_told_again_only_to_a_retry(
    pretend: PretendCloud, admin: Client, tmp_path: Path
) -> None:
    made = await admin.iam("CreateAccessKey", invocation="retry-1")
    assert await admin.iam("CreateAccessKey", invocation="retry-1") == made
    await pretend.cloud.db.close()
    stored = everything_in(tmp_path)
    assert made["AccessKey"]["AccessKeyId"].encode() in stored
    assert made["AccessKey"]["SecretAccessKey"].encode() not in stored


async def test_another_accounts_users_and_keys_do_not_exist(admin: Client, stranger: Client) -> None:
    await admin.iam("CreateUser", UserName="ada")
    key_id = (await admin.iam("CreateAccessKey", UserName="ada"))["AccessKey"]["AccessKeyId"]
    assert (await stranger.iam("ListUsers"))["Users"] == []
    for operation, more in (
        ("GetUser", {}),
        ("DeleteUser", {}),
        ("CreateAccessKey", {}),
        ("ListAccessKeys", {}),
        ("DeleteAccessKey", {"AccessKeyId": key_id}),
    ):
        with refused("NoSuchEntity"):
            await stranger.iam(operation, UserName="ada", **more)
    for operation, more in (("DeleteAccessKey", {}), ("UpdateAccessKey", {"Status": "Inactive"})):
        with refused("NoSuchEntity", match="Access Key with id"):
            await stranger.iam(operation, AccessKeyId=key_id, **more)


async def test_an_account_starts_with_a_key_a_network_and_a_group(
    pretend: PretendCloud, admin: Client
) -> None:
    made = await admin.iam("CreateAccount", AccountName="team")
    account, key = made["Account"]["AccountId"], made["AccessKey"]
    found = await pretend.cloud.keys.find(key["AccessKeyId"])
    assert found is not None
    assert found.secret == key["SecretAccessKey"]
    assert (found.principal.account_id, found.principal.is_root) == (account, True)
    team = Client.root(pretend.cloud, account)
    assert len((await team.ec2("DescribeSubnets"))["Subnets"]) == 2
    assert [one["GroupName"] for one in (await team.ec2("DescribeSecurityGroups"))["SecurityGroups"]] == [
        "default"
    ]
    with refused("EntityAlreadyExists"):
        await admin.iam("CreateAccount", AccountName="team")
    assert {one["AccountName"] for one in (await admin.iam("ListAccounts"))["Accounts"]} == {"admin", "team"}


async def test_an_account_goes_when_it_is_empty_or_all_may_go(pretend: PretendCloud, admin: Client) -> None:
    made = await admin.iam("CreateAccount", AccountName="team")
    team = Client.root(pretend.cloud, made["Account"]["AccountId"])
    await team.iam("CreateUser", UserName="ada")
    await team.ec2("CreateKeyPair", KeyName="k", KeyType="ed25519")
    with refused("DeleteConflict", match="must delete users and key pairs first"):
        await admin.iam("DeleteAccount", AccountName="team")
    await admin.iam("DeleteAccount", AccountName="team", Recursive=True)
    assert await pretend.cloud.keys.find(made["AccessKey"]["AccessKeyId"]) is None
    with refused("NoSuchEntity"):
        await admin.iam("DeleteAccount", AccountName="team")
    with refused("DeleteConflict"):
        await admin.iam("DeleteAccount", AccountName="admin", Recursive=True)


async def test_instances_are_never_deleted_with_their_account(pretend: PretendCloud, admin: Client) -> None:
    made = await admin.iam("CreateAccount", AccountName="team")
    await pretend.run(account=made["Account"]["AccountId"])
    with refused("DeleteConflict", match="terminate instances"):
        await admin.iam("DeleteAccount", AccountName="team", Recursive=True)


@pytest.mark.parametrize("operation", ["CreateAccount", "ListAccounts", "DeleteAccount"])
async def test_accounts_are_for_the_clouds_admin(stranger: Client, operation: str) -> None:
    parameters = {} if operation == "ListAccounts" else {"AccountName": "mine"}
    with refused("AccessDenied", status=403):
        await stranger.iam(operation, **parameters)
