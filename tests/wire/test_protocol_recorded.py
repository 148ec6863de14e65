"""AWS's recorded answers, read by botocore and written by us: the same elements in the same order."""

import xml.etree.ElementTree as ET

import pytest
from botocore import xform_name
from botocore.parsers import create_parser
from botocore_source import source
from model_values import comparable, service_model

from mallee.aws import model
from mallee.aws.protocol import Protocol

NOT_IN_ONE_ORDER = {
    "ec2-describe-bundle-tasks"
}  # contradicts the recordings of BundleInstance and CancelBundleTask


def name_of(element):
    return element.tag.rpartition("}")[2]


def tags(element, other):
    """The tags below an element, in order, of what `other` has as well."""
    partners = {}
    for child in other:
        partners.setdefault(name_of(child), []).append(child)
    partners.pop("requestId", None)  # first in all recordings but two
    shared = [child for child in element if name_of(child) in partners]
    return [(name_of(child), tags(child, partners[name_of(child)].pop(0))) for child in shared]


@pytest.mark.parametrize("service", ["ec2", "sts", "autoscaling"])
def test_elements_come_in_the_order_of_the_recorded_answers(service) -> None:
    protocol = Protocol(model.load(service))
    described = service_model(service)
    parser = create_parser(protocol.model.protocol)
    by_file = {f"{service}-{xform_name(name, '-')}": name for name in described.operation_names}
    tried = 0
    for path in sorted((source() / "response_parsing" / "xml" / "responses").glob(f"{service}-*.xml")):
        name = by_file.get(path.stem)
        if name is None or path.stem in NOT_IN_ONE_ORDER:
            continue
        shape = described.operation_model(name).output_shape
        recorded = path.read_bytes()
        if b"YYYY" in recorded:  # a page of the documentation, not an answer
            continue
        value = parser.parse({"body": recorded, "headers": {}, "status_code": 200}, shape)
        metadata = value.pop("ResponseMetadata")
        ours = protocol.serialize(name, value, metadata.get("RequestId", ""))
        again = parser.parse({"body": ours, "headers": {}, "status_code": 200}, shape)
        again.pop("ResponseMetadata")
        assert comparable(again) == comparable(value), path.stem
        a, b = ET.fromstring(recorded), ET.fromstring(ours)
        assert tags(a, b) == tags(b, a), path.stem
        tried += 1
    assert tried >= {"ec2": 60, "sts": 1, "autoscaling": 10}[service]
