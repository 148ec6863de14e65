"""The cloud's accounts: Mallee's own actions, for the account that the cloud was made with."""

from __future__ import annotations

from typing import NamedTuple, NotRequired, TypedDict

from mallee.aws.errors import AccessDenied
from mallee.clc.api.iam import forms, iam
from mallee.clc.api.iam.errors import DeleteConflict, EntityAlreadyExists, NoSuchEntity
from mallee.clc.api.iam.users import Result
from mallee.clc.api.times import moment
from mallee.clc.call import Call
from mallee.clc.db import accounts, images, interfaces, key_pairs, tenants
from mallee.clc.db.accounts import Account
from mallee.kernel.db import Tx


class CreateAccountRequest(TypedDict):
    AccountName: str


class DeleteAccountRequest(TypedDict):
    AccountName: str
    Recursive: NotRequired[bool]


class Made(NamedTuple):
    """A new key with the only copy of its secret."""

    account_id: str
    key_id: str
    secret: str
    made_ms: int


def _only_admin(call: Call) -> None:
    if not call.is_cloud_admin:
        principal, action = call.request.principal.arn, call.request.operation
        raise AccessDenied(f"User: {principal} is not authorized to perform: iam:{action}")


@iam.action("CreateAccount", accepts=("AccountName",), secret_result=True)
async def create_account(call: Call, req: CreateAccountRequest) -> Result:
    """A new account with its root's key, default VPC and default group."""
    _only_admin(call)
    cloud, name = call.cloud, forms.account_name(req["AccountName"])
    tenant, secret = tenants.prepare(
        name,
        entropy=cloud.entropy,
        seal=cloud.box.seal,
        zones=cloud.clusters.zones,
        cidr=cloud.config.default_vpc_cidr,
        now_ms=call.now_ms,
    )

    def work(tx: Tx) -> Made:
        if accounts.account_named(tx, name) is not None:
            raise EntityAlreadyExists(f"Account with name {name} already exists.")
        tenants.create(tx, tenant)
        return Made(tenant.account.id, tenant.root_key.id, secret, tenant.account.created_ms)

    made = await call.change(work, Made)
    return {
        "Account": {"AccountName": name, "AccountId": made.account_id},
        "AccessKey": {
            "UserName": "",
            "AccessKeyId": made.key_id,
            "Status": "Active",
            "SecretAccessKey": made.secret,
            "CreateDate": moment(made.made_ms),
        },
    }


@iam.action("ListAccounts")
async def list_accounts(call: Call, _req: dict[str, object]) -> Result:
    """Every account of the cloud, by name."""
    _only_admin(call)
    found = await call.cloud.db.read(accounts.all_accounts)
    return {"Accounts": [{"AccountName": one.name, "AccountId": one.id} for one in found]}


@iam.action("DeleteAccount", accepts=("AccountName", "Recursive"))
async def delete_account(call: Call, req: DeleteAccountRequest) -> None:
    """Forget an account; with Recursive, its users, keys, images and groups too.

    Instances hold machines, so they are always its owner's to terminate first.
    """
    _only_admin(call)
    name, recursive = req["AccountName"], req.get("Recursive", False)

    def work(tx: Tx) -> None:
        account = accounts.account_named(tx, name)
        if account is None:
            raise NoSuchEntity.account(name)
        _check_may_go(tx, account, recursive=recursive)
        tenants.remove(tx, account.id)
        call.cloud.keys.changed(tx)

    await call.change(work, type(None))


def _check_may_go(tx: Tx, account: Account, *, recursive: bool) -> None:
    if account.is_admin:
        raise DeleteConflict("Cannot delete the account that the cloud was made with.")
    if interfaces.page(tx, account.id, size=1):
        raise DeleteConflict("Cannot delete entity, must terminate instances first.")
    has = {
        "users": accounts.users_page(tx, account.id, size=1),
        "key pairs": key_pairs.of_account(tx, account.id),
        "images": images.owned(tx, account.id, size=1),
    }
    holds = [what for what, some in has.items() if some]
    if holds and not recursive:
        raise DeleteConflict(f"Cannot delete entity, must delete {' and '.join(holds)} first.")
