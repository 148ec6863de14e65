"""What was promised beside instances, asked again when all is at rest; and what several controllers may not leave."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from typing import TYPE_CHECKING, Any

from mallee.domain.disk_image import IMAGES_OF
from mallee.walrus.errors import S3Error
from tests.sim.client import Client, Refused, Unknown

if TYPE_CHECKING:
    from tests.sim.users import User
    from tests.sim.world import Process, World

_UNKNOWN_KEY = {"AuthFailure", "InvalidClientTokenId"}


def unrest(world: World) -> list[str]:
    """What is still under way in the database of the cloud controllers, whoever began it."""
    found = []
    for saga, state, error in world.clc.rows("SELECT id, state, error FROM saga"):
        if state not in {"done", "undone"}:
            found.append(f"saga {saga} of the cloud controllers is {state}: {error}")
    for (image,) in world.clc.rows("SELECT id FROM images WHERE state = 'pending'"):
        found.append(f"image {image} is pending")
    return found


async def insist(client: Client, operation: str, **parameters: Any) -> dict[str, Any] | Refused:
    """The answer of a cloud in which nothing is in the way."""
    while True:
        try:
            return await client(operation, **parameters)
        except Unknown:
            await asyncio.sleep(0.5)
        except Refused as refused:
            if refused.status < 500:
                return refused
            await asyncio.sleep(0.5)


async def keys_are_as_promised(admin: User) -> None:
    """What was given is good, what was taken away is not: at each cloud controller."""
    promises, world = admin.promises, admin.world
    for key in [*promises.good_keys, *promises.gone_keys]:
        for _ in world.of_role("clc"):
            answer = await insist(Client(world, "reckoning", key), "GetCallerIdentity", service="sts")
            if key in promises.gone_keys:
                if not isinstance(answer, Refused) or answer.code not in _UNKNOWN_KEY:
                    admin.watch.broken("I16", f"{key.access_key_id} was taken away and is told {answer}")
            elif isinstance(answer, Refused) or not answer["Arn"].endswith(promises.good_keys[key]):
                admin.watch.broken("I12", f"{key.access_key_id} was given and is told {answer}")


async def descriptions_are_as_promised(user: User) -> None:
    """What was acknowledged of one user's instances, groups and images."""
    promises = user.promises
    described = {each: value for each, value in promises.described.items() if each[0] in user.mine}
    if described:
        answer = await _granted(user, "DescribeInstances")
        found = {each["InstanceId"]: each for one in answer["Reservations"] for each in one["Instances"]}
        for (name, attribute), value in described.items():
            seen = found.get(name)
            if value is None or seen is None or seen["State"]["Name"] in {"shutting-down", "terminated"}:
                continue
            if (now := await _attribute(user, seen, attribute)) != value:
                user.watch.broken("I12", f"{attribute} of {name} was set to {value!r} and is {now!r}")
    if rules := [rule for rule, who in promises.rules.items() if who == user.name]:
        answer = await _granted(user, "DescribeSecurityGroupRules")
        let_in = {(each["GroupId"], each.get("CidrIpv4")) for each in answer["SecurityGroupRules"]}
        for rule in rules:
            if rule not in let_in:
                user.watch.broken("I12", f"{user.name} let {rule} in, and it is shut out")
    if images := [image for image, who in promises.images.items() if who == user.name]:
        answer = await _granted(user, "DescribeImages", Owners=["self"], IncludeDisabled=True)
        for image in sorted(set(images) - {each["ImageId"] for each in answer["Images"]}):
            user.watch.broken("I12", f"{image} was made and is not there")


async def _granted(user: User, operation: str, **parameters: Any) -> dict[str, Any]:
    answer = await insist(user.client, operation, **parameters)
    assert isinstance(answer, dict), answer
    return answer


async def _attribute(user: User, seen: dict[str, Any], attribute: str) -> Any:
    match attribute:
        case "hops":
            return seen["MetadataOptions"]["HttpPutResponseHopLimit"]
        case "monitoring":
            return seen["Monitoring"]["State"]
        case "instanceType":
            return seen["InstanceType"]
        case _:
            answer = await _granted(
                user, "DescribeInstanceAttribute", InstanceId=seen["InstanceId"], Attribute=attribute
            )
            told = answer[attribute[0].upper() + attribute[1:]].get("Value")
            return b64decode(told) if attribute == "userData" and told else told


async def files_of_images(world: World, process: Process) -> list[str]:
    """What is wrong with the files of images that the cloud made: in the store's own process."""
    store, found = process.service.store, []
    rows = world.clc.rows(f"SELECT id, state, location FROM images WHERE location LIKE '{IMAGES_OF}%'")
    for image, state, location in rows:
        bucket, _, key = location.partition("/")
        try:
            await store.find(bucket, key)
        except S3Error as error:
            if state != "failed":
                found.append(f"{image} is {state} and its file is not there: {error.code}")
        else:
            if state == "failed":
                found.append(f"{image} has failed and its file is there")
    return found
