"""Key pairs: made here or imported; only the public half is kept.

Source: "Amazon EC2 key pairs and Amazon EC2 instances".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

from mallee.aws.errors import InvalidParameterValue, MissingParameter
from mallee.clc.api.ec2 import ec2, tagging
from mallee.clc.api.ec2.key_material import Material, create, read
from mallee.clc.api.ec2.listing import TAG_LOOKS, Looks, Sought, member, missing
from mallee.clc.api.times import moment
from mallee.clc.call import Call
from mallee.clc.db import key_pairs, tags
from mallee.clc.db.key_pairs import KeyPair
from mallee.clc.errors import InvalidKeyPairDuplicate, InvalidKeyPairNotFound
from mallee.kernel.db import Tx
from mallee.kernel.entropy import resource_id

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import (
        CreateKeyPairRequestTypeDef,
        DeleteKeyPairRequestTypeDef,
        DescribeKeyPairsRequestTypeDef,
        ImportKeyPairRequestTypeDef,
    )

Result = dict[str, object]


class Created(NamedTuple):
    """A key pair with the only copy of its private half."""

    key: KeyPair
    private: str


def _name(given: str) -> str:
    """A key's name: up to 255 printable ASCII characters, no space at either end."""
    good = given.isascii() and given.isprintable() and given.strip() == given
    if not good or not 1 <= len(given) <= 255:
        raise InvalidParameterValue(
            f"Value ({given[:300]}) for parameter KeyName is invalid. It must have 1 to 255 ASCII characters"
            " without leading or trailing spaces."
        )
    return given


def _check_free(tx: Tx, account: str, name: str) -> None:
    if key_pairs.find(tx, account, name) is not None:
        raise InvalidKeyPairDuplicate(name)


def _keep(tx: Tx, key: KeyPair, wanted: dict[str, str]) -> None:
    _check_free(tx, key.account_id, key.name)
    key_pairs.add(tx, key)
    tags.attach(tx, key.account_id, "key-pair", (key.id,), wanted)


def _row(call: Call, name: str, made: Material) -> KeyPair:
    key_id = resource_id(call.cloud.entropy, "key")
    return KeyPair(call.account, name, key_id, made.type, made.fingerprint, made.public, call.now_ms)


def _shown(key: KeyPair, wanted: dict[str, str]) -> Result:
    answer: Result = {"KeyPairId": key.id, "KeyName": key.name, "KeyFingerprint": key.fingerprint}
    if wanted:
        answer["Tags"] = tagging.shown(wanted)
    return answer


@ec2.action(
    "CreateKeyPair",
    accepts=("KeyName", "KeyType", "KeyFormat", "TagSpecifications", "DryRun"),
    secret_result=True,
)
async def create_key_pair(call: Call, req: CreateKeyPairRequestTypeDef) -> Result:
    """A new key pair; this answer is the only place where its private half ever is."""
    name = _name(req["KeyName"])
    wanted = tagging.specified(req.get("TagSpecifications", ()), "key-pair")["key-pair"]
    answered = await call.answered(Created)
    if answered is None:
        # Told before half a second of looking for primes.
        await call.cloud.db.read(lambda tx: _check_free(tx, call.account, name))
        made = await create(req.get("KeyType", "rsa"), req.get("KeyFormat", "pem"))
        key = _row(call, name, made)

        def work(tx: Tx) -> Created:
            _keep(tx, key, wanted)
            return Created(key, made.private)

        answered = await call.change(work, Created)
    return {**_shown(answered.key, wanted), "KeyMaterial": answered.private}


@ec2.action("ImportKeyPair", accepts=("KeyName", "PublicKeyMaterial", "TagSpecifications", "DryRun"))
async def import_key_pair(call: Call, req: ImportKeyPairRequestTypeDef) -> Result:
    """Keep the public half of a key that was made elsewhere: OpenSSH, PEM or DER."""
    wanted = tagging.specified(req.get("TagSpecifications", ()), "key-pair")["key-pair"]
    material = cast("bytes", req["PublicKeyMaterial"])  # a blob of the wire
    key = _row(
        call, _name(req["KeyName"]), read(material if isinstance(material, bytes) else bytes(material))
    )

    def work(tx: Tx) -> KeyPair:
        _keep(tx, key, wanted)
        return key

    return _shown(await call.change(work, KeyPair), wanted)


@ec2.action("DeleteKeyPair", accepts=("KeyName", "KeyPairId", "DryRun"))
async def delete_key_pair(call: Call, req: DeleteKeyPairRequestTypeDef) -> Result:
    """Forget a key pair; one that is not there is as good as deleted."""
    name, key_id = req.get("KeyName"), req.get("KeyPairId")
    if name is None and key_id is None:
        raise MissingParameter("KeyName or KeyPairId")

    def work(tx: Tx) -> str:
        by_id = key_pairs.find_id(tx, call.account, key_id) if key_id is not None else None
        found = by_id or (key_pairs.find(tx, call.account, name) if key_id is None and name else None)
        if found is None:
            return ""
        if name is not None and found.name != name:
            raise InvalidKeyPairNotFound(name)
        key_pairs.remove(tx, call.account, found.name)
        tags.drop(tx, call.account, (found.id,))
        return found.id

    deleted = await call.change(work, str)
    return {"Return": True, **({"KeyPairId": deleted} if deleted else {})}


_LOOKS: Looks = {
    **TAG_LOOKS,
    "key-pair-id": member("KeyPairId"),
    "fingerprint": member("KeyFingerprint"),
    "key-name": member("KeyName"),
}


@ec2.action(
    "DescribeKeyPairs",
    accepts=("KeyNames", "KeyPairIds", "IncludePublicKey", "Filters", "DryRun"),
    filters=_LOOKS,
)
async def describe_key_pairs(call: Call, req: DescribeKeyPairsRequestTypeDef) -> Result:
    """The account's key pairs by name; all of those asked for by name or id must be there."""
    sought, names, ids = (
        Sought(req.get("Filters"), _LOOKS),
        req.get("KeyNames", ()),
        req.get("KeyPairIds", ()),
    )

    def work(tx: Tx) -> list[dict[str, Any]]:
        keys = key_pairs.of_account(tx, call.account)
        unknown = missing(names, {key.name for key in keys}) + missing(ids, {key.id for key in keys})
        if unknown:
            raise InvalidKeyPairNotFound(*unknown)
        wanted = [key for key in keys if not (names or ids) or key.name in names or key.id in ids]
        tagged = tags.of(tx, call.account, [key.id for key in wanted])
        return [_described(key, tagged.get(key.id, {})) for key in wanted]

    found = [key for key in await call.cloud.db.read(work) if sought.passes(key)]
    if not req.get("IncludePublicKey", False):
        for key in found:
            del key["PublicKey"]
    return {"KeyPairs": found}


def _described(key: KeyPair, tagged: dict[str, str]) -> dict[str, Any]:
    return {
        "KeyPairId": key.id,
        "KeyType": key.type,
        "Tags": tagging.shown(tagged),
        "PublicKey": key.public_key,
        "CreateTime": moment(key.created_ms),
        "KeyName": key.name,
        "KeyFingerprint": key.fingerprint,
    }
