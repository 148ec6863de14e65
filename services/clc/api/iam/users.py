"""IAM users: names within an account that may hold access keys of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mallee.clc.api.iam import forms, iam
from mallee.clc.api.iam.errors import DeleteConflict, EntityAlreadyExists, LimitExceeded, NoSuchEntity
from mallee.clc.api.iam.pages import marked
from mallee.clc.api.times import moment
from mallee.clc.call import Call
from mallee.clc.db import accounts
from mallee.clc.db.accounts import User
from mallee.kernel.db import Tx

if TYPE_CHECKING:
    from types_boto3_iam.type_defs import (
        CreateUserRequestTypeDef,
        DeleteUserRequestTypeDef,
        GetUserRequestTypeDef,
        ListUsersRequestTypeDef,
    )

USERS_PER_ACCOUNT = 5000

Result = dict[str, object]


def described(user: User, *, with_tags: bool = True) -> Result:
    """A user as IAM shows it; lists leave the tags out."""
    shown: Result = {
        "Path": user.path,
        "UserName": user.name,
        "UserId": user.id,
        "Arn": user.arn,
        "CreateDate": moment(user.created_ms),
    }
    tags = user.tag_map() if with_tags else {}
    if tags:
        shown["Tags"] = [{"Key": key, "Value": value} for key, value in tags.items()]
    return shown


def find(tx: Tx, account: str, name: str) -> User:
    """The account's user. Raises NoSuchEntity."""
    found = accounts.user(tx, account, name)
    if found is None:
        raise NoSuchEntity.user(name)
    return found


@iam.action("CreateUser", accepts=("Path", "UserName", "Tags"))
async def create_user(call: Call, req: CreateUserRequestTypeDef) -> Result:
    """A new user; names that differ only by case are the same."""
    user = accounts.new_user(
        call.account,
        accounts.new_unique_id(call.cloud.entropy, "AIDA"),
        forms.user_name(req["UserName"]),
        forms.path(req.get("Path", "/")),
        forms.tags(req.get("Tags", ())),
        call.now_ms,
    )

    def work(tx: Tx) -> User:
        if accounts.user(tx, call.account, user.name) is not None:
            raise EntityAlreadyExists(f"User with name {user.name} already exists.")
        if accounts.count_users(tx, call.account) >= USERS_PER_ACCOUNT:
            raise LimitExceeded(f"Cannot exceed quota for UsersPerAccount: {USERS_PER_ACCOUNT}")
        accounts.add_user(tx, user)
        return user

    return {"User": described(await call.change(work, User))}


@iam.action("GetUser", accepts=("UserName",))
async def get_user(call: Call, req: GetUserRequestTypeDef) -> Result:
    """The user named, or whoever asks."""
    signer, name = call.request.principal, req.get("UserName")
    if name is not None:
        wanted = forms.user_name(name, 128)
        return {"User": described(await call.cloud.db.read(lambda tx: find(tx, call.account, wanted)))}
    if signer.is_root:
        return {"User": await call.cloud.db.read(lambda tx: _root(tx, call.account))}
    found = await call.cloud.db.read(lambda tx: accounts.user_by_id(tx, call.account, signer.user_id))
    if found is None:
        raise NoSuchEntity.user(signer.arn.rpartition("/")[2])
    return {"User": described(found)}


def _root(tx: Tx, account_id: str) -> Result:
    """The account's root as IAM shows it: without a name or path."""
    account = accounts.account(tx, account_id)
    return {
        "UserId": account_id,
        "Arn": f"arn:aws:iam::{account_id}:root",
        "CreateDate": moment(account.created_ms if account else 0),
    }


@iam.action("ListUsers", accepts=("PathPrefix", "Marker", "MaxItems"))
async def list_users(call: Call, req: ListUsersRequestTypeDef) -> Result:
    """The account's users by name."""
    prefix = forms.path_prefix(req.get("PathPrefix", "/"))

    def fetch(tx: Tx, after: str, size: int) -> Sequence[User]:
        """Pages are of matching users, so what does not match is passed over here."""
        found: list[User] = []
        while len(found) < size:
            rows = accounts.users_page(tx, call.account, after, size)
            found += [user for user in rows if user.path.startswith(prefix)]
            if len(rows) < size:
                break
            after = rows[-1].name_key
        return found[:size]

    users, rest = await marked(call, req, fetch, lambda user: user.name_key)
    return {"Users": [described(user, with_tags=False) for user in users], **rest}


@iam.action("DeleteUser", accepts=("UserName",))
async def delete_user(call: Call, req: DeleteUserRequestTypeDef) -> None:
    """Forget a user, who may not hold anything any more."""
    name = forms.user_name(req["UserName"], 128)

    def work(tx: Tx) -> None:
        user = find(tx, call.account, name)
        if accounts.keys_of(tx, call.account, user.id, size=1):
            raise DeleteConflict("Cannot delete entity, must delete access keys first.")
        accounts.remove_user(tx, call.account, user.id)

    await call.change(work, type(None))
