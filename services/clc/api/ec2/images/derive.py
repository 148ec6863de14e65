"""CopyImage and CreateImage: the record at once, `pending`; the work by a saga.

Sources: "Copy an Amazon EC2 AMI" and "Create an Amazon EBS-backed AMI" of the user guide, as far as an image
that is a file of the object store is like one of EBS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mallee.aws.errors import InvalidParameterValue
from mallee.clc.api.ec2 import ec2, tagging
from mallee.clc.api.ec2.images import checks
from mallee.clc.api.ec2.instances.describe import checked_ids
from mallee.clc.call import Call
from mallee.clc.db import images, instances, tags
from mallee.clc.db.images import PENDING, Image, ImageDetails
from mallee.clc.db.instances import InstanceRow
from mallee.clc.errors import IncorrectInstanceState
from mallee.clc.instance import State
from mallee.clc.sagas import copy_image as copying
from mallee.clc.sagas import create_image as creating
from mallee.clc.sagas.making_images import Wish
from mallee.kernel.db import Tx
from mallee.kernel.entropy import resource_id

if TYPE_CHECKING:
    from types_boto3_ec2.type_defs import CopyImageRequestTypeDef, CreateImageRequestTypeDef

Result = dict[str, Any]


@ec2.action(
    "CopyImage",
    accepts=(
        *("SourceImageId", "SourceRegion", "Name", "Description", "ClientToken", "CopyImageTags"),
        *("TagSpecifications", "DryRun"),
    ),
)
async def copy_image(call: Call, req: CopyImageRequestTypeDef) -> Result:
    """An image of the account's own, made from one that it may launch: its files in a bucket of the account's."""
    region, source_id = call.cloud.config.region, req["SourceImageId"]
    name, description = checks.checked_name(req["Name"]), req.get("Description")
    if req["SourceRegion"] != region:
        raise InvalidParameterValue(
            f"Invalid source region: {req['SourceRegion'][:64]}. This cloud is {region}."
        )
    wanted = tagging.specified(req.get("TagSpecifications", ()), "image")["image"]
    checks.store(call)
    image_id, now_ms = resource_id(call.cloud.entropy, "ami"), call.now_ms

    def work(tx: Tx) -> str:
        source = checks.available(images.get(tx, call.account, source_id))
        checks.check_unused(tx, call.account, name)
        files = source.more.files
        wish = Wish(image_id, call.account, source=files)
        image = source._replace(
            id=image_id,
            account_id=call.account,
            owner_alias="",
            name=name,
            description=checks.checked_description(
                source.description if description is None else description
            ),
            location=source.location if files is None else f"{wish.bucket}/{wish.key('root')}",
            state=PENDING,
            public=False,
            created_ms=now_ms,
        )
        details = ImageDetails(root_gib=source.more.root_gib, source_image_id=source.id)
        images.add(tx, image._replace(details=images.encode(details)))
        given = wanted
        if req.get("CopyImageTags") and source.account_id == call.account:
            given = tags.of(tx, call.account, (source.id,)).get(source.id, {}) | wanted
        tags.attach(tx, call.account, "image", (image_id,), given)
        _begin(call, tx, copying.KIND, wish)
        return image_id

    return {"ImageId": await call.change(work, str)}


@ec2.action(
    "CreateImage",
    accepts=("InstanceId", "Name", "Description", "NoReboot", "TagSpecifications", "DryRun"),
)
async def create_image(call: Call, req: CreateImageRequestTypeDef) -> Result:
    """An image of an instance's root disk. One that runs is stopped for it and started again, but for NoReboot."""
    (instance_id,) = checked_ids([req["InstanceId"]])
    name = checks.checked_name(req["Name"])
    description = checks.checked_description(req.get("Description", ""))
    wanted = tagging.specified(req.get("TagSpecifications", ()), "image")["image"]
    checks.store(call)
    image_id, now_ms = resource_id(call.cloud.entropy, "ami"), call.now_ms

    def work(tx: Tx) -> str:
        (row,) = instances.mine(tx, call.account, (instance_id,))
        if row.state not in {State.RUNNING, State.STOPPED}:
            raise IncorrectInstanceState(
                f"The instance '{row.id}' is {State(row.state).title}; it must be running or stopped."
            )
        checks.check_unused(tx, call.account, name)
        restart = row.state == State.RUNNING and not req.get("NoReboot", False)
        wish = Wish(image_id, call.account, instance_id=row.id, restart=restart)
        images.add(
            tx,
            _of_instance(tx, call, row, wish)._replace(name=name, description=description, created_ms=now_ms),
        )
        tags.attach(tx, call.account, "image", (image_id,), wanted)
        _begin(call, tx, creating.KIND, wish)
        return image_id

    return {"ImageId": await call.change(work, str)}


def _of_instance(tx: Tx, call: Call, row: InstanceRow, wish: Wish) -> Image:
    """The record to be, without its name. What the instance was launched from may be gone by now."""
    details = instances.decode(row.details)
    from_ = next(iter(images.by_ids(tx, call.account, (row.image_id,))), None)
    more = ImageDetails(
        source_instance_id=row.id,
        source_image_id=row.image_id,
        kernel_id=from_.more.kernel_id if from_ else "",
        ramdisk_id=from_.more.ramdisk_id if from_ else "",
    )
    return Image(
        id=wish.image_id,
        account_id=call.account,
        owner_alias="",
        name="",
        description="",
        location=f"{wish.bucket}/{wish.key('root')}",
        architecture=details.architecture,
        virtualization_type=details.virtualization,
        root_device_name=details.root_device_name,
        imds_support=from_.imds_support if from_ else "",
        ena_support=from_.ena_support if from_ else False,
        state=PENDING,
        details=images.encode(more),
    )


def _begin(call: Call, tx: Tx, kind: str, wish: Wish) -> None:
    """The saga has the image's id: whoever has a retried request in hand begins nothing twice."""
    call.cloud.sagas.enqueue(tx, kind, wish.image_id, wish, subject=wish.image_id)
