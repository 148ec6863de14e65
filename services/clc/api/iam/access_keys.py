"""Access keys: two at most for each user and for the root; a secret is told once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mallee.aws.errors import ValidationError
from mallee.clc.api.iam import forms, iam
from mallee.clc.api.iam.errors import LimitExceeded, NoSuchEntity
from mallee.clc.api.iam.pages import marked
from mallee.clc.api.iam.users import Result, find
from mallee.clc.api.times import moment
from mallee.clc.call import Call
from mallee.clc.db import accounts
from mallee.clc.db.accounts import AccessKey
from mallee.kernel.db import Tx

if TYPE_CHECKING:
    from types_boto3_iam.type_defs import (
        CreateAccessKeyRequestTypeDef,
        DeleteAccessKeyRequestTypeDef,
        ListAccessKeysRequestTypeDef,
        UpdateAccessKeyRequestTypeDef,
    )


class Made(NamedTuple):
    """A new key with the only copy of its secret."""

    user_name: str
    key_id: str
    secret: str
    made_ms: int


def _owner(tx: Tx, call: Call, name: str | None) -> tuple[str, str]:
    """Id and name of the user meant: the one named, or whoever asks; both empty for the root."""
    if name is not None:
        user = find(tx, call.account, forms.user_name(name, 128))
        return user.id, user.name
    signer = call.request.principal
    if signer.is_root:
        return "", ""
    own = accounts.user_by_id(tx, call.account, signer.user_id)
    if own is None:
        raise NoSuchEntity.user(signer.arn.rpartition("/")[2])
    return own.id, own.name


def _key(tx: Tx, call: Call, name: str | None, key_id: str) -> AccessKey:
    if not (16 <= len(key_id) <= 128 and key_id.isascii() and key_id.replace("_", "").isalnum()):
        raise ValidationError.at("accessKeyId", key_id, "have 16 to 128 letters and digits")
    user_id, _ = _owner(tx, call, name)
    found = accounts.key_of(tx, call.account, user_id, key_id)
    if found is None:
        raise NoSuchEntity.access_key(key_id)
    return found


@iam.action("CreateAccessKey", accepts=("UserName",), secret_result=True)
async def create_access_key(call: Call, req: CreateAccessKeyRequestTypeDef) -> Result:
    """A new key, valid for the next request; the only answer that holds its secret."""
    key_id = accounts.new_unique_id(call.cloud.entropy, "AKIA")
    secret = accounts.new_secret(call.cloud.entropy)
    sealed, now_ms = call.cloud.box.seal(secret), call.now_ms

    def work(tx: Tx) -> Made:
        user_id, name = _owner(tx, call, req.get("UserName"))
        if len(accounts.keys_of(tx, call.account, user_id)) >= accounts.KEYS_PER_USER:
            raise LimitExceeded(f"Cannot exceed quota for AccessKeysPerUser: {accounts.KEYS_PER_USER}")
        accounts.add_key(tx, AccessKey(key_id, call.account, user_id, sealed, "Active", now_ms))
        return Made(name, key_id, secret, now_ms)

    made = await call.change(work, Made)
    return {
        "AccessKey": {
            "UserName": made.user_name,
            "AccessKeyId": made.key_id,
            "Status": "Active",
            "SecretAccessKey": made.secret,
            "CreateDate": moment(made.made_ms),
        }
    }


@iam.action("ListAccessKeys", accepts=("UserName", "Marker", "MaxItems"))
async def list_access_keys(call: Call, req: ListAccessKeysRequestTypeDef) -> Result:
    """The keys of a user, or of whoever asks; never their secrets."""
    user_id, name = await call.cloud.db.read(lambda tx: _owner(tx, call, req.get("UserName")))
    keys, rest = await marked(
        call,
        req,
        lambda tx, after, size: accounts.keys_of(tx, call.account, user_id, after, size),
        lambda key: key.id,
    )
    shown = [
        {
            "UserName": name,
            "AccessKeyId": key.id,
            "Status": key.status,
            "CreateDate": moment(key.created_ms),
        }
        for key in keys
    ]
    return {"AccessKeyMetadata": shown, **rest}


@iam.action("UpdateAccessKey", accepts=("UserName", "AccessKeyId", "Status"))
async def update_access_key(call: Call, req: UpdateAccessKeyRequestTypeDef) -> None:
    """Make a key valid or refused, from the next request on."""
    status = req["Status"]
    if status not in {"Active", "Inactive"}:
        raise ValidationError.at("status", status, "satisfy enum value set: [Active, Inactive]")

    def work(tx: Tx) -> None:
        key = _key(tx, call, req.get("UserName"), req["AccessKeyId"])
        accounts.set_status(tx, key.id, status)
        call.cloud.keys.changed(tx)

    await call.change(work, type(None))


@iam.action("DeleteAccessKey", accepts=("UserName", "AccessKeyId"))
async def delete_access_key(call: Call, req: DeleteAccessKeyRequestTypeDef) -> None:
    """Forget a key: the next request that it signs is refused."""

    def work(tx: Tx) -> None:
        key = _key(tx, call, req.get("UserName"), req["AccessKeyId"])
        accounts.remove_key(tx, key.id)
        call.cloud.keys.changed(tx)

    await call.change(work, type(None))
