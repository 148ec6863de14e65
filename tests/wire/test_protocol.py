"""Every operation of four services, both ways, against botocore's own serializer and parser."""

import xml.etree.ElementTree as ET
from urllib.parse import urlencode

import pytest
from botocore.parsers import create_parser
from botocore.serialize import create_serializer
from model_values import SERVICES, chance, plain, sample, sendable, service_model, slow_xml

from mallee.aws import model
from mallee.aws.protocol import Protocol, decode, tree

HOW_MUCH = (1.0, 0.3, 0.0)


def operations(service):
    """Each operation with botocore's model of it."""
    described = service_model(service)
    return [described.operation_model(name) for name in described.operation_names]


@pytest.mark.parametrize("service", SERVICES)
def test_the_model_is_the_one_that_clients_read(service) -> None:
    ours = model.load(service)
    theirs = service_model(service)
    assert list(ours.operations) == list(theirs.operation_names)
    assert (ours.protocol, ours.version) == (theirs.protocol, theirs.api_version)


@pytest.mark.parametrize("keep", HOW_MUCH)
@pytest.mark.parametrize("service", SERVICES)
def test_what_a_client_writes_is_read_as_it_was_meant(service, keep) -> None:
    protocol = Protocol(model.load(service))
    serializer = create_serializer(protocol.model.protocol, include_validation=False)
    for operation in operations(service):
        dice = chance(f"{operation.name}{keep}")
        meant = (
            sendable(sample(operation.input_shape, dice, keep=keep) if operation.input_shape else {}) or {}
        )
        form = serializer.serialize_to_request(meant, operation)["body"]
        del form["Action"], form["Version"]
        parse = protocol.parser(operation.name)
        assert parse(tree(decode(urlencode(form).encode()))) == meant, operation.name


@pytest.mark.parametrize("keep", HOW_MUCH)
@pytest.mark.parametrize("service", SERVICES)
def test_what_is_written_a_client_reads_as_it_was_meant(service, keep) -> None:
    protocol = Protocol(model.load(service))
    parser = create_parser(protocol.model.protocol)
    for operation in operations(service):
        dice = chance(f"{operation.name}{keep}")
        shape = operation.output_shape
        meant = sample(shape, dice, keep=keep) if shape else {}
        body = protocol.serialize(operation.name, meant, "id-1")
        read = parser.parse({"body": body, "headers": {}, "status_code": 200}, shape)
        assert read.pop("ResponseMetadata")["RequestId"] == "id-1", operation.name
        assert read == meant, operation.name


@pytest.mark.parametrize("service", SERVICES)
def test_the_compiled_writer_agrees_with_the_slow_one(service) -> None:
    protocol = Protocol(model.load(service))
    for operation in operations(service):
        if operation.output_shape is None:
            continue
        value = sample(operation.output_shape, chance(operation.name))
        root = ET.fromstring(protocol.serialize(operation.name, value, "id-1"))
        wrapper = operation.output_shape.serialization.get("resultWrapper")
        if wrapper:
            root = next(child for child in root if child.tag.endswith(wrapper))
        else:
            root.remove(root[0])  # the request id
        slow = slow_xml(operation.output_shape, value, root.tag.rpartition("}")[2], protocol.model.protocol)
        assert plain(root) == plain(slow), operation.name
