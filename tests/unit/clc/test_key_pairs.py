"""Key pairs: what is made works, what is imported is checked, fingerprints are EC2's."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
    load_ssh_public_key,
)

from tests.unit.clc.as_a_client import Client, refused

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
ED25519 = ed25519.Ed25519PrivateKey.generate().public_key()


def openssh(key: Any) -> bytes:
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


def der(key: Any) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


async def test_an_rsa_key_is_made_with_amazons_fingerprint(admin: Client) -> None:
    made = await admin.ec2("CreateKeyPair", KeyName="k")
    private = load_pem_private_key(made["KeyMaterial"].encode(), None)
    assert isinstance(private, rsa.RSAPrivateKey)
    assert private.key_size == 2048
    assert made["KeyMaterial"].startswith("-----BEGIN RSA PRIVATE KEY-----")
    pkcs8 = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    assert made["KeyFingerprint"] == hashlib.sha1(pkcs8).digest().hex(":")
    (shown,) = (await admin.ec2("DescribeKeyPairs", IncludePublicKey=True))["KeyPairs"]
    assert load_ssh_public_key(shown["PublicKey"].encode()) == private.public_key()
    assert (shown["KeyType"], shown["KeyPairId"]) == ("rsa", made["KeyPairId"])


async def test_an_ed25519_key_is_made_with_openssh_fingerprint(admin: Client) -> None:
    made = await admin.ec2("CreateKeyPair", KeyName="k", KeyType="ed25519")
    private = load_ssh_private_key(made["KeyMaterial"].encode(), None)
    blob = base64.b64decode(openssh(private.public_key()).split()[1])
    assert made["KeyFingerprint"] == base64.b64encode(hashlib.sha256(blob).digest()).decode()


async def test_an_rsa_key_is_imported_whatever_its_form(admin: Client) -> None:
    blob = openssh(RSA).split()[1]
    lines = b"\n".join(blob[i : i + 70] for i in range(0, len(blob), 70))
    forms = {
        "openssh": openssh(RSA) + b" ada@home\n",
        "pem": RSA.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "der": der(RSA),
        "base64-der": base64.b64encode(der(RSA)),
        "rfc4716": b"---- BEGIN SSH2 PUBLIC KEY ----\nComment: x\n"
        + lines
        + b"\n---- END SSH2 PUBLIC KEY ----\n",
    }
    for name, material in forms.items():
        made = await admin.ec2("ImportKeyPair", KeyName=name, PublicKeyMaterial=material)
        assert made["KeyFingerprint"] == hashlib.md5(der(RSA)).digest().hex(":"), name
    found = (await admin.ec2("DescribeKeyPairs", IncludePublicKey=True))["KeyPairs"]
    assert {key["PublicKey"] for key in found} == {openssh(RSA).decode()}


async def test_an_ed25519_key_is_imported(admin: Client) -> None:
    await admin.ec2("ImportKeyPair", KeyName="k", PublicKeyMaterial=openssh(ED25519))
    (shown,) = (await admin.ec2("DescribeKeyPairs"))["KeyPairs"]
    assert shown["KeyType"] == "ed25519"
    assert "PublicKey" not in shown


@pytest.mark.parametrize(
    "material",
    [
        b"",
        b"ssh-rsa",
        b"ssh-rsa AAAA",
        b"ssh-rsa " + b"A" * 20000,
        b"\x00\xff" * 40,
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        b"---- BEGIN SSH2 PUBLIC KEY ----",
        openssh(ec.generate_private_key(ec.SECP256R1()).public_key()),
        der(dsa.generate_private_key(1024).public_key()),
        openssh(rsa.generate_private_key(public_exponent=65537, key_size=1536).public_key()),
    ],
)
async def test_what_is_no_key_of_ec2s_is_refused(admin: Client, material: bytes) -> None:
    with refused("InvalidKey.Format"):
        await admin.ec2("ImportKeyPair", KeyName="k", PublicKeyMaterial=material)


async def test_a_private_key_is_never_taken_for_a_public_one(admin: Client) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with refused("InvalidKey.Format"):
        await admin.ec2("ImportKeyPair", KeyName="k", PublicKeyMaterial=pem)


async def test_a_name_is_one_of_its_kind(admin: Client, stranger: Client) -> None:
    await admin.ec2("CreateKeyPair", KeyName="k", KeyType="ed25519")
    with refused("InvalidKeyPair.Duplicate", match="The keypair already exists: k"):
        await admin.ec2("CreateKeyPair", KeyName="k", KeyType="ed25519")
    with refused("InvalidKeyPair.Duplicate"):
        await admin.ec2("ImportKeyPair", KeyName="k", PublicKeyMaterial=openssh(ED25519))
    await stranger.ec2("CreateKeyPair", KeyName="k", KeyType="ed25519")


async def test_a_retry_gets_the_same_private_key(admin: Client) -> None:
    made = await admin.ec2("CreateKeyPair", KeyName="k", KeyType="ed25519", invocation="1")
    assert await admin.ec2("CreateKeyPair", KeyName="k", KeyType="ed25519", invocation="1") == made


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"KeyName": ""}, "InvalidParameterValue"),
        ({"KeyName": "k" * 256}, "InvalidParameterValue"),
        ({"KeyName": "kö"}, "InvalidParameterValue"),
        ({"KeyName": " k"}, "InvalidParameterValue"),
        ({"KeyName": "k "}, "InvalidParameterValue"),
        ({"KeyName": "k", "KeyType": "dsa"}, "InvalidParameterValue"),
        ({"KeyName": "k", "KeyFormat": "jks"}, "InvalidParameterValue"),
        ({"KeyName": "k", "KeyFormat": "ppk"}, "UnsupportedOperation"),
        (
            {"KeyName": "k", "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "a"}]}]},
            "InvalidParameterValue",
        ),
    ],
)
async def test_what_cannot_be_made_is_refused(admin: Client, parameters: dict[str, Any], code: str) -> None:
    with refused(code):
        await admin.ec2("CreateKeyPair", **parameters)
    assert (await admin.ec2("DescribeKeyPairs"))["KeyPairs"] == []


async def test_keys_are_found_by_name_id_and_filter(admin: Client, stranger: Client) -> None:
    tags = [{"ResourceType": "key-pair", "Tags": [{"Key": "team", "Value": "a"}]}]
    one = await admin.ec2("CreateKeyPair", KeyName="one", KeyType="ed25519", TagSpecifications=tags)
    await admin.ec2("CreateKeyPair", KeyName="two", KeyType="ed25519")
    assert one["Tags"] == [{"Key": "team", "Value": "a"}]

    async def found(**how: Any) -> list[str]:
        return [key["KeyName"] for key in (await admin.ec2("DescribeKeyPairs", **how))["KeyPairs"]]

    assert await found(KeyNames=["two"]) == ["two"]
    assert await found(KeyPairIds=[one["KeyPairId"]]) == ["one"]
    for name, value in (
        ("tag:team", "a"),
        ("tag-key", "team"),
        ("key-name", "o*"),
        ("fingerprint", one["KeyFingerprint"]),
        ("key-pair-id", one["KeyPairId"]),
    ):
        assert await found(Filters=[{"Name": name, "Values": [value]}]) == ["one"], name
    with refused("InvalidKeyPair.NotFound", match="'none' does not exist"):
        await found(KeyNames=["one", "none"])
    with refused("InvalidKeyPair.NotFound"):
        await stranger.ec2("DescribeKeyPairs", KeyPairIds=[one["KeyPairId"]])


async def test_delete_is_done_once_and_fine_twice(admin: Client, stranger: Client) -> None:
    one = await admin.ec2("CreateKeyPair", KeyName="one", KeyType="ed25519")
    await stranger.ec2("DeleteKeyPair", KeyPairId=one["KeyPairId"])
    assert await admin.ec2("DeleteKeyPair", KeyName="one") == {"Return": True, "KeyPairId": one["KeyPairId"]}
    assert await admin.ec2("DeleteKeyPair", KeyName="one") == {"Return": True}
    assert await admin.ec2("DeleteKeyPair", KeyPairId=one["KeyPairId"]) == {"Return": True}
    with refused("MissingParameter"):
        await admin.ec2("DeleteKeyPair")
