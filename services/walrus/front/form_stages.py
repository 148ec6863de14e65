"""The stages of an upload by form, up to where it is a `PutObject` like any other, and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from lxml import etree

from mallee.aws.rest_xml import KEY, Answer, Sent, header_text
from mallee.aws.rest_xml.xml import parse
from mallee.walrus.errors import S3Error
from mallee.walrus.front.address import Address, checked_key
from mallee.walrus.front.exchange import Exchange
from mallee.walrus.front.form_policy import read_policy
from mallee.walrus.front.forms import Form, boundary_of, headers_of
from mallee.walrus.front.stages import MAX_UPLOAD, Stages

OPERATION: Final = "PutObject"


def is_form(x: Exchange) -> bool:
    """Whether the request is an upload by form: a POST to a bucket, with the type of a form."""
    return x.arrived.method == "POST" and b"multipart/form-data" in x.arrived.folded.get(b"content-type", b"")


async def receive_form(stages: Stages, x: Exchange) -> None:
    """Its fields, who signed them, and whether their policy holds."""
    assert x.incoming
    boundary = boundary_of(x.headers.get(b"content-type", b""))
    if boundary is None or b"authorization" in x.headers:
        raise S3Error("InvalidArgument", "A form is signed by its fields, and only by them.")
    x.name = OPERATION
    x.operation, x.reader = stages.operations.get(OPERATION), stages.readers.get(OPERATION)
    x.form = form = Form(x.incoming, boundary)
    await form.read_fields()
    if "key" not in form.fields:
        raise S3Error(
            "InvalidArgument",
            "Bucket POST must contain a field named 'key'.  If it is specified, please check the order of the fields.",
            ArgumentName="key",
        )
    form.largest = MAX_UPLOAD
    policy = form.fields.get("policy")
    if policy is not None:
        x.signed = await stages.verifier.verify_policy(form.fields, policy)
        read = read_policy(policy)
        read.check(form.fields, x.address.bucket, x.now)
        form.smallest, form.largest = read.smallest, read.largest
    elif form.fields.keys() & {"x-amz-signature", "x-amz-credential"}:
        raise S3Error(
            "InvalidArgument", "Bucket POST must contain a field named 'policy'.", ArgumentName="policy"
        )
    key = form.fields["key"].replace("${filename}", form.filename)
    if not key:
        raise S3Error("InvalidArgument", "User key must have a length greater than 0.", ArgumentName="key")
    x.address = Address(x.address.bucket, checked_key(key), KEY)
    x.query = {}
    x.headers = {**_of_browser(x.headers), **headers_of(form.fields)}
    if "tagging" in form.fields:
        x.headers[b"x-amz-tagging"] = _tags(form.fields["tagging"])


async def read_form(stages: Stages, x: Exchange) -> None:  # noqa: ARG001 - a stage's shape
    """The parameters of the upload."""
    if x.reader is None:
        raise S3Error("NotImplemented", "Uploads by form are not implemented.", Header=OPERATION)
    x.parameters = x.reader.read(Sent({"Bucket": x.address.bucket, "Key": x.address.key}, {}, x.headers))


async def answer_form(stages: Stages, x: Exchange) -> None:  # noqa: ARG001 - a stage's shape
    """What the form asked to be answered with."""
    assert x.form
    done = {name: value for name, value in x.answer.headers if name == b"etag" or name.startswith(b"x-amz-")}
    etag = done.get(b"etag", b"").decode()
    bucket, key = x.address.bucket, x.address.key
    location = f"{x.scope.get('scheme', 'http')}://{x.arrived.folded.get(b'host', b'').decode('latin-1')}"
    path = x.arrived.path.decode("latin-1").rstrip("/")
    location = f"{location}{path}/{quote(key)}"
    headers = [*done.items(), (b"location", header_text(location))]
    redirect = _redirect(x.form.fields, bucket, key, etag)
    if redirect:
        headers[-1] = (b"location", header_text(redirect))
        x.answer = Answer(303, headers)
    elif x.form.fields.get("success_action_status") == "201":
        root = etree.Element("PostResponse")
        for name, text in (("Location", location), ("Bucket", bucket), ("Key", key), ("ETag", etag)):
            etree.SubElement(root, name).text = _writable(text)
        headers.append((b"content-type", b"application/xml"))
        x.answer = Answer(201, headers, etree.tostring(root, encoding="UTF-8", xml_declaration=True))
    else:
        status = 200 if x.form.fields.get("success_action_status") == "200" else 204
        x.answer = Answer(status, headers)


def _of_browser(headers: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """What the browser says of itself; what it says of the body is about the form, not the file."""
    return {
        name: value
        for name, value in headers.items()
        if not name.startswith((b"content-", b"x-amz-")) and name not in {b"expires", b"cache-control"}
    }


def _redirect(fields: Mapping[str, str], bucket: str, key: str, etag: str) -> str:
    """Where the browser is to go; empty if it is not to go anywhere, or to what is no address."""
    wanted = fields.get("success_action_redirect") or fields.get("redirect") or ""
    try:
        parts = urlsplit(wanted)
    except ValueError:
        return ""
    if parts.scheme not in {"http", "https"} or not parts.netloc or not wanted.isprintable():
        return ""
    told = urlencode({"bucket": bucket, "key": key, "etag": etag})
    return urlunsplit(parts._replace(query=f"{parts.query}&{told}" if parts.query else told))


def _tags(document: str) -> bytes:
    """The field `tagging` is XML; the header for the same is a query string."""
    root = parse(document.encode())
    pairs = [(tag.findtext("{*}Key", ""), tag.findtext("{*}Value", "")) for tag in root.iterfind(".//{*}Tag")]
    return urlencode(pairs).encode()


def _writable(text: str) -> str:
    """What XML 1.0 cannot carry becomes U+FFFD."""
    return "".join(one if one.isprintable() or one in "\t\n" else "\ufffd" for one in text)
