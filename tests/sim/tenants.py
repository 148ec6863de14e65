"""What users do with accounts, users, keys and tokens: what was given works at once, what was taken away does not."""

from __future__ import annotations

import asyncio

from mallee.kernel.errors import Fault
from mallee.rpc.enrolment_pb2 import JoinRequest
from tests.sim.client import Client, Key, Refused, Unknown
from tests.sim.deeds import deed
from tests.sim.users import IMAGE, User
from tests.sim.world import TOKEN_PREFIX, Process

FORGOTTEN = 1.2  # seconds in which each cloud controller has heard that a key was taken away, whatever its clock's rate
_REFUSED = {"AuthFailure", "InvalidClientTokenId"}


@deed(0.6)
async def a_user_with_a_key(u: User) -> None:
    """A new user who may ask who he is and nothing else; some lose their key again, and are refused from then on."""
    name = f"clerk-{u.chance.getrandbits(32):08x}"
    if await u.ask("CreateUser", service="iam", UserName=name) is None:
        return
    made = await u.ask("CreateAccessKey", service="iam", UserName=name)
    if made is None:
        return
    key = Key(made["AccessKey"]["AccessKeyId"], made["AccessKey"]["SecretAccessKey"])
    clerk = Client(u.world, f"{u.name}'s {name}", key)
    await _is_good(u, clerk, f":user/{name}")
    try:
        await clerk("DescribeInstances")
        u.watch.broken("I17", f"{name} may do something")
    except Refused as refused:
        if refused.code != "UnauthorizedOperation" and refused.status < 500:
            u.watch.broken("I17", f"{name} was told {refused}")
    except Unknown:
        pass
    match u.chance.choice(["keeps it", "keeps it", "loses it", "it rests"]):
        case "keeps it":
            u.promises.good_keys[key] = f":user/{name}"
        case "loses it":
            if (
                await u.ask("DeleteAccessKey", service="iam", UserName=name, AccessKeyId=key.access_key_id)
                is not None
            ):
                await _is_gone(u, clerk)
                await u.ask("DeleteUser", service="iam", UserName=name)
        case _:
            change = {"service": "iam", "UserName": name, "AccessKeyId": key.access_key_id}
            if await u.ask("UpdateAccessKey", Status="Inactive", **change) is not None:
                await _is_gone(u, clerk)


async def _is_good(u: User, clerk: Client, arn: str) -> None:
    try:
        who = await clerk("GetCallerIdentity", service="sts")
    except Refused as refused:
        if refused.status < 500:
            u.watch.broken("I12", f"a key of {arn} is told {refused}")
    except Unknown:
        return
    else:
        if not who["Arn"].endswith(arn):
            u.watch.broken("I12", f"a key of {arn} is {who['Arn']}'s")


async def _is_gone(u: User, clerk: Client) -> None:
    """It was acknowledged that the key is good for nothing any more."""
    await asyncio.sleep(FORGOTTEN)
    u.promises.gone_keys.add(clerk.key)
    for _ in range(2):  # at either cloud controller, most often
        try:
            await clerk("GetCallerIdentity", service="sts")
            u.watch.broken("I16", f"the key of {clerk.name} was taken away and is good")
        except Refused as refused:
            if refused.status < 500 and refused.code not in _REFUSED:
                u.watch.broken("I16", f"the key of {clerk.name} was taken away and is told {refused}")
        except Unknown:
            pass


@deed(0.3)
async def a_key_of_its_own(u: User) -> None:
    """A second key of the account's root, and a look at both."""
    made = await u.ask("CreateAccessKey", service="iam")
    if made is None:
        return
    key = Key(made["AccessKey"]["AccessKeyId"], made["AccessKey"]["SecretAccessKey"])
    await _is_good(u, Client(u.world, f"{u.name} again", key), ":root")
    listed = await u.ask("ListAccessKeys", service="iam")
    if listed and key.access_key_id not in {each["AccessKeyId"] for each in listed["AccessKeyMetadata"]}:
        u.watch.broken("I12", f"{key.access_key_id} is not listed")
    if await u.ask("DeleteAccessKey", service="iam", AccessKeyId=key.access_key_id) is not None:
        await _is_gone(u, Client(u.world, f"{u.name} again", key))


@deed(0.3)
async def one_user_twice(u: User) -> None:
    """Two users of one name at once, one in capitals: one of them is refused."""
    name = f"twin-{u.chance.getrandbits(32):08x}"
    asked = (u.ask("CreateUser", service="iam", UserName=each) for each in (name, name.upper()))
    if len([each for each in await asyncio.gather(*asked) if each]) > 1:
        u.watch.broken("I5", f"two users are named {name}")
    await u.ask("GetUser", service="iam", UserName=name)
    await u.ask("ListUsers", service="iam")


@deed(0.4, admin=True)
async def an_account(u: User) -> None:
    """A new tenant, which has all that it needs; some are closed again."""
    name = f"firm-{u.chance.getrandbits(32):08x}"
    made = await u.ask("CreateAccount", service="iam", AccountName=name)
    if made is None:
        return
    key = Key(made["AccessKey"]["AccessKeyId"], made["AccessKey"]["SecretAccessKey"])
    firm = Client(u.world, name, key)
    arn = f"{made['Account']['AccountId']}:root"
    await _is_good(u, firm, arn)
    launched = u.chance.random() < 0.4 and await _launched(u, firm)
    if u.chance.random() < 0.5:
        u.promises.good_keys[key] = arn
        return
    closed = await u.ask("DeleteAccount", service="iam", AccountName=name, Recursive=True)
    if closed is not None and launched:
        u.watch.broken("I12", f"{name} was closed and has instances")
    if closed is not None:
        await _is_gone(u, firm)
    listed = await u.ask("ListAccounts", service="iam")
    if listed and closed is not None and name in {each["AccountName"] for each in listed["Accounts"]}:
        u.watch.broken("I12", f"{name} was closed and is listed")


async def _launched(u: User, firm: Client) -> bool:
    try:
        answer = await firm(
            "RunInstances",
            ImageId=IMAGE,
            InstanceType="sim.small",
            MinCount=1,
            MaxCount=1,
            ClientToken=firm.token(),
        )
    except (Refused, Unknown):
        return False
    u.promises.launched.update((each["InstanceId"], firm.name) for each in answer["Instances"])
    return True


@deed(0.4, admin=True)
async def a_machine_joins(u: User) -> None:
    """With a token that is good once: several machines come with it at the same moment, to every cloud controller."""
    zone = u.chance.choice(u.world.shape.zone_names)
    made = await u.ask("CreateNodeToken", AvailabilityZone=zone, NodeName="newcomer")
    if made is None:
        return
    secret = made["Token"].removeprefix(TOKEN_PREFIX)
    doors = [each for each in u.world.of_role("clc") if each.up for _ in range(2)]
    taken = await asyncio.gather(*(_joins(each, secret) for each in doors))
    if sum(taken) > 1:
        u.watch.broken("I5", f"one token took {sum(taken)} machines in")


async def _joins(process: Process, secret: str) -> bool:
    joined: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    enrolment = process.service.cloud.enrolment

    async def join() -> None:
        try:
            await enrolment.Join(JoinRequest(secret=secret, node="newcomer", certificate_request=b""), None)
        except Fault:
            settled = False
        else:
            settled = True
        if not joined.done():
            joined.set_result(settled)

    process.do(join())
    try:
        async with asyncio.timeout(20):
            return await joined
    except TimeoutError:  # its process died, or hangs
        return False
