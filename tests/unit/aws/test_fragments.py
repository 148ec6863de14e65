import xml.etree.ElementTree as ET

import pytest

from mallee.aws import model
from mallee.aws.fingerprint import parameter_hash
from mallee.aws.protocol import Fragment, Protocol

WIRE = Protocol(model.load("ec2"))
INSTANCE = {
    "InstanceId": "i-1",
    "State": {"Code": 16, "Name": "running"},
    "Tags": [{"Key": "Name", "Value": "a <b> & \x0b käng \U0001f998 \t\n"}],
    "EbsOptimized": False,
}


def page(instance) -> bytes:
    reservation = {"ReservationId": "r-1", "Instances": [instance, instance]}
    return WIRE.serialize("DescribeInstances", {"Reservations": [reservation]}, "id-1")


def test_a_fragment_stands_for_its_value() -> None:
    fragment = WIRE.fragment("DescribeInstances", "Reservations.Instances", INSTANCE)
    assert isinstance(fragment, Fragment)
    assert fragment.isascii()
    assert page(fragment) == page(INSTANCE)
    run = WIRE.serialize("RunInstances", {"Instances": [fragment]}, "id-1")
    assert run == WIRE.serialize("RunInstances", {"Instances": [INSTANCE]}, "id-1")


def test_a_fragment_of_a_list_and_of_a_single_structure() -> None:
    value = {"ReservationId": "r-1", "Instances": [INSTANCE]}
    whole = WIRE.fragment("DescribeInstances", "Reservations", value)
    answer = WIRE.serialize("DescribeInstances", {"Reservations": [whole]}, "id-1")
    assert answer == WIRE.serialize("DescribeInstances", {"Reservations": [value]}, "id-1")
    migration = WIRE.fragment("CancelInstanceMigration", "Migration", {"MigrationId": "m-1"})
    assert migration == b"<migration><migrationId>m-1</migrationId></migration>"
    answer = WIRE.serialize("CancelInstanceMigration", {"Migration": migration}, "id-1")
    assert b"</requestId><migration><migrationId>m-1" in answer


def test_text_arrives_as_it_was() -> None:
    text = next(each.text for each in ET.fromstring(page(INSTANCE)).iter() if each.tag.endswith("}value"))
    assert text == "a <b> & \ufffd käng \U0001f998 \t\n"


@pytest.mark.parametrize("path", ["Nonsense", "Reservations.Nonsense", "NextToken.x"])
def test_a_path_that_the_model_does_not_have(path) -> None:
    with pytest.raises(KeyError):
        WIRE.fragment("DescribeInstances", path, {})


@pytest.mark.parametrize(
    "value",
    [
        {"InstanceID": "i-1"},
        {"State": {"Code": "16"}},
        {"EbsOptimized": "false"},
        {"InstanceId": 7},
        {"LaunchTime": "yesterday"},
        {"Tags": {"Key": "Name"}},
    ],
)
def test_a_value_that_does_not_fit_is_never_written(value) -> None:
    with pytest.raises((TypeError, ValueError, KeyError, AttributeError)):
        page(value)


def test_none_is_absent() -> None:
    assert page({"InstanceId": "i-1", "KeyName": None, "Nonsense": None}) == page({"InstanceId": "i-1"})


def test_one_hash_for_one_wish() -> None:
    wish = {
        "ImageId": "ami-1",
        "Placement": {"AvailabilityZone": "a", "Tenancy": "default"},
        "ClientToken": "t",
    }
    same = {"Placement": {"Tenancy": "default", "AvailabilityZone": "b"}, "DryRun": True, "ImageId": "ami-1"}
    assert parameter_hash(wish) == parameter_hash(same)
    assert parameter_hash(wish) != parameter_hash({**wish, "ImageId": "ami-2"})
    assert parameter_hash({"A": ["1", "2"]}) != parameter_hash({"A": ["2", "1"]})
    assert parameter_hash({"A": "1"}) != parameter_hash({"A": 1})
    assert parameter_hash({"A": float("nan")})
