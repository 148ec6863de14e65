"""The protocol cases of the Smithy project, as botocore's source distribution carries them."""

import base64
import json
from datetime import UTC, datetime

import pytest
from botocore.model import OperationModel, ServiceModel
from botocore.parsers import create_parser
from botocore_source import source
from model_values import comparable

from mallee.aws.errors import AwsError
from mallee.aws.model import Model
from mallee.aws.protocol import Protocol, decode, tree

UNREAD_BY_BOTOCORE = {"Ec2XmlLists", "QueryXmlLists"}  # on its own list of cases that its parser fails


def cases(direction, protocol):
    """(name, model data, case) of each; the archive is fetched when a test runs, not when it is collected."""
    for suite in json.loads((source() / "protocols" / direction / f"{protocol}.json").read_text()):
        for case in suite["cases"]:
            name = case["given"]["name"]
            data = {
                "metadata": dict(suite["metadata"]),
                "operations": {name: case["given"]},
                "shapes": suite["shapes"],
            }
            yield case.get("id", name), data, case


def as_parsed(shape, value):
    """A case's parameter as a handler gets it: times and blobs in Python's types."""
    if value is None:
        return None
    if shape.type_name == "structure":
        found = {name: as_parsed(shape.members[name], one) for name, one in value.items()}
        return {name: one for name, one in found.items() if one is not None}
    if shape.type_name == "list":
        return [as_parsed(shape.member, one) for one in value if one is not None]
    if shape.type_name == "map":
        return {key: as_parsed(shape.value, one) for key, one in value.items()}
    convert = {
        "timestamp": lambda t: datetime.fromtimestamp(t, UTC),
        "blob": str.encode,
        "float": float,
        "double": float,
    }
    return convert.get(shape.type_name, lambda same: same)(value)


@pytest.mark.parametrize("protocol", ["ec2", "query"])
def test_inputs(protocol) -> None:
    tried = 0
    for name, data, case in cases("input", protocol):
        if (
            "TokenAutoFill" in name or "body" not in case["serialized"]
        ):  # the client makes the token; the case's parameters do not have it
            continue
        operation = case["given"]["name"]
        shape = OperationModel(case["given"], ServiceModel(data, "x")).input_shape
        form = tree(decode(case["serialized"]["body"].encode()))
        assert form.pop("Action") == operation
        form.pop("Version")
        got = Protocol(Model("x", data)).parser(operation)(form)
        wanted = as_parsed(shape, case["params"]) if shape else {}
        wanted = {
            member: one for member, one in wanted.items() if one or f"{member}=" in case["serialized"]["body"]
        }
        assert comparable(got) == comparable(wanted), name
        tried += 1
    assert tried > 20


@pytest.mark.parametrize("protocol", ["ec2", "query"])
def test_outputs(protocol) -> None:
    """botocore reads from our answer what the case says it must read."""
    tried = 0
    for name, data, case in cases("output", protocol):
        if "result" not in case or name in UNREAD_BY_BOTOCORE:
            continue
        data["metadata"].setdefault("xmlNamespace", "https://example.com/")
        operation = case["given"]["name"]
        shape = OperationModel(case["given"], ServiceModel(data, "x")).output_shape
        value = as_parsed(shape, case["result"]) if shape else {}
        ours = Protocol(Model("x", data)).serialize(operation, value, "requestid")
        got = create_parser(protocol).parse({"body": ours, "headers": {}, "status_code": 200}, shape)
        assert got.pop("ResponseMetadata")["RequestId"] == "requestid"
        assert comparable(got) == comparable(value), name
        tried += 1
    assert tried > 12


@pytest.mark.parametrize("protocol", ["ec2", "query"])
def test_errors(protocol) -> None:
    parser = create_parser(protocol)
    data = {"metadata": {"protocol": protocol, "apiVersion": "2020-01-08"}, "operations": {}, "shapes": {}}
    error = AwsError("A.B", "a < b & \x00 käng", 400)
    body = Protocol(Model("x", data)).error(error, "id-1")
    read = parser.parse({"body": body, "headers": {}, "status_code": 400}, None)
    assert read["Error"]["Code"] == "A.B"
    assert read["Error"]["Message"] == "a < b & � käng"
    assert read["ResponseMetadata"]["RequestId"] == "id-1"


def test_a_blob_is_base64() -> None:
    shapes = {"In": {"type": "structure", "members": {"B": {"shape": "Blob"}}}, "Blob": {"type": "blob"}}
    data = {
        "metadata": {"protocol": "query", "apiVersion": "2020-01-08"},
        "operations": {"Op": {"name": "Op", "input": {"shape": "In"}}},
        "shapes": shapes,
    }
    parse = Protocol(Model("x", data)).parser("Op")
    assert parse({"B": base64.b64encode(b"\x00\xff").decode()}) == {"B": b"\x00\xff"}
    with pytest.raises(AwsError, match="base64"):
        parse({"B": "AAA"})
