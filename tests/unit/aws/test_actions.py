import pytest

from mallee.aws import model
from mallee.aws.actions import ActionTable
from mallee.aws.errors import UnknownParameter, UnsupportedParameter
from mallee.aws.model import Model
from mallee.aws.protocol import Protocol, decode, tree

EC2 = model.load("ec2")


async def handler(call, req):
    """What it is for."""


def table(name, **entry) -> ActionTable:
    made = ActionTable("ec2")
    made.action(name, **entry)(handler)
    return made


def test_an_entry() -> None:
    (action,) = table("TerminateInstances", accepts=("InstanceIds",))
    assert (action.name, action.accepts, action.doc) == (
        "TerminateInstances",
        ("InstanceIds",),
        "What it is for.",
    )
    assert action.handler is handler


@pytest.mark.parametrize(
    ("name", "mutating"),
    [("DescribeVpcs", False), ("GetConsoleOutput", False), ("ListUsers", False), ("RunInstances", True)],
)
def test_the_verb_says_whether_it_changes_something(name, mutating) -> None:
    (action,) = table(name)
    assert action.mutating is mutating
    (said,) = table(name, mutating=not mutating)
    assert said.mutating is not mutating


def test_one_action_has_one_handler() -> None:
    twice = table("RunInstances")
    with pytest.raises(ValueError, match="two handlers"):
        twice.action("RunInstances")(handler)


def test_verify_names_all_that_is_wrong() -> None:
    good = table(
        "RunInstances", accepts=("BlockDeviceMappings.Ebs.VolumeSize", "TagSpecifications", "MinCount")
    )
    good.verify(EC2)
    bad = table("RunInstances", accepts=("BlockDeviceMappings.Ebs.Nonsense", "Nonsense"))
    bad.action("DescribeVpcs", filters={"vpc-id": None})(handler)
    bad.action("Nonsense")(handler)
    with pytest.raises(
        ValueError, match=r"Ebs\.Nonsense.*accepts Nonsense.*does not accept Filters.*not an operation"
    ):
        bad.verify(EC2)


ACCEPTS = (
    "BlockDeviceMappings.Ebs.VolumeSize",
    "BlockDeviceMappings.DeviceName",
    "Placement",
    "MinCount",
    "MaxCount",
)


def run_instances(form: str):
    parse = Protocol(EC2).parser("RunInstances", ACCEPTS)
    return parse(tree(decode(f"MinCount=1&MaxCount=1&{form}".encode())))


def test_what_is_accepted() -> None:
    got = run_instances(
        "BlockDeviceMapping.0.Ebs.VolumeSize=8&BlockDeviceMapping.7.DeviceName=b&Placement.AvailabilityZone=a"
    )
    assert got["BlockDeviceMappings"] == [{"Ebs": {"VolumeSize": 8}}, {"DeviceName": "b"}]
    assert got["Placement"] == {"AvailabilityZone": "a"}


@pytest.mark.parametrize(
    "name", ["ImageId", "BlockDeviceMapping.1.Ebs.Iops", "BlockDeviceMapping.1.VirtualName"]
)
def test_what_the_model_knows_and_the_action_does_not(name) -> None:
    with pytest.raises(
        UnsupportedParameter, match=f"UnsupportedOperation: The parameter {name} is not supported"
    ):
        run_instances(f"{name}=1")


@pytest.mark.parametrize(
    "name",
    ["Image", "imageId", "BlockDeviceMapping.1.Ebs.Nonsense", "BlockDeviceMapping.x.DeviceName", "MinCount.1",
     "BlockDeviceMapping.01.DeviceName", "BlockDeviceMapping.-1.DeviceName", "BlockDeviceMapping.1234567.DeviceName",
     "BlockDeviceMapping.\u0663.DeviceName", "Placement.AvailabilityZone.x"],
)  # fmt: skip
def test_what_the_model_does_not_know(name) -> None:
    parse = Protocol(EC2).parser("RunInstances", ACCEPTS)
    form = tree([(name, "1")])
    with pytest.raises(UnknownParameter, match="is not recognized"):
        parse(form)


def test_indices_may_start_at_zero_and_have_gaps() -> None:
    parse = Protocol(EC2).parser("DescribeInstances")
    form = tree(decode(b"InstanceId.10=c&InstanceId.0=a&InstanceId.2=b"))
    assert parse(form) == {"InstanceIds": ["a", "b", "c"]}


NUMBERS = {
    "metadata": {"protocol": "query", "apiVersion": "2020-01-08"},
    "operations": {"Op": {"name": "Op", "input": {"shape": "In"}}},
    "shapes": {
        "In": {
            "type": "structure",
            "members": {name: {"shape": name} for name in ("integer", "long", "double", "boolean", "timestamp", "secret")},
        },
        **{name: {"type": name} for name in ("integer", "long", "double", "boolean", "timestamp")},
        "secret": {"type": "integer", "sensitive": True},
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("integer", text)
        for text in ("", "1.0", " 1", "1 ", "0x1", "1_0", "\u0661", "2147483648", "9" * 5000, "+", "true")
    ]
    + [
        ("long", str(2**63)),
        ("double", "1e"),
        ("double", "0x1"),
        ("double", "1_0"),
        ("double", "nan"),
        ("double", ""),
    ]
    + [("boolean", text) for text in ("", "yes", "TRUE", "2", " true")]
    + [
        ("timestamp", text)
        for text in ("", "now", "2020-13-01", "2020-01-01T25:00:00Z", "99999999999999999999", "1e99")
    ],
)
def test_values_of_the_wrong_type(kind, text) -> None:
    parse = Protocol(Model("x", NUMBERS)).parser("Op")
    with pytest.raises(Exception, match=f"InvalidParameterValue: Value .* for parameter {kind} is invalid"):
        parse({kind: text})


def test_a_sensitive_value_is_not_repeated() -> None:
    parse = Protocol(Model("x", NUMBERS)).parser("Op")
    with pytest.raises(Exception, match="The value for parameter secret is invalid") as told:
        parse({"secret": "hunter2"})
    assert "hunter2" not in str(told.value)


def test_extremes() -> None:
    parse = Protocol(Model("x", NUMBERS)).parser("Op")
    assert parse({"integer": "-2147483648", "long": str(-(2**63)), "boolean": "0", "double": "-1.5e3"}) == {
        "integer": -(2**31),
        "long": -(2**63),
        "boolean": False,
        "double": -1500.0,
    }
