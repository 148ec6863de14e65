"""The pipeline from the outside: what each kind of request is answered."""

import asyncio
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from mallee.aws.throttle import Limit, Limits, ResourceLimit
from tests.unit.aws.front import SECRET, House


def code(body: bytes) -> str:
    root = ET.fromstring(body)
    return next(each.text for each in root.iter() if each.tag.rpartition("}")[2] == "Code")


def message(body: bytes) -> str:
    return next(each.text for each in ET.fromstring(body).iter() if each.tag.rpartition("}")[2] == "Message")


async def test_an_answer() -> None:
    house = House()
    status, headers, body = await house.ask(version="2014-10-01")
    assert status == 200
    assert headers[b"content-type"] == b"text/xml;charset=UTF-8"
    assert b'xmlns="http://ec2.amazonaws.com/doc/2014-10-01/"' in body
    assert b"<reservationId>r-&lt;&amp;&gt;</reservationId>" in body
    assert b"<requestId>" + headers[b"x-amzn-requestid"] + b"</requestId>" in body
    ((call, req),) = house.calls
    assert req == {}
    assert (call.operation, call.region, call.version) == ("DescribeInstances", "mallee-1", "2014-10-01")
    assert (call.principal.account_id, call.source_ip) == ("000000000001", "10.0.0.1")
    again = await house.ask()
    assert again[1][b"x-amzn-requestid"] != headers[b"x-amzn-requestid"]


async def test_an_action_without_a_result() -> None:
    _, _, body = await House().ask("RebootInstances", **{"InstanceId.1": "i-1"})
    assert body.endswith(b"</requestId><return>true</return></RebootInstancesResponse>")


async def test_the_service_follows_from_the_scope() -> None:
    status, headers, body = await House().ask("GetCallerIdentity", service="sts")
    assert status == 200
    assert b"<GetCallerIdentityResult><UserId>AIDA1</UserId><Account>000000000001</Account>" in body
    assert headers[b"x-amzn-requestid"] in body


@pytest.mark.parametrize(
    ("action", "parameters", "status", "wanted", "text"),
    [
        ("DescribeInstances", {"InstanceId.1": "i-aws"}, 400, "InvalidInstanceID.NotFound", "does not exist"),
        ("DescribeInstances", {"InstanceId.1": "i-away"}, 503, "Unavailable", "try again"),
        ("DescribeInstances", {"InstanceId.1": "i-full"}, 503, "Unavailable", "no room"),
        ("DescribeInstances", {"InstanceId.1": "i-odd"}, 500, "InternalError", "An internal error has occurred"),
        ("DescribeInstances", {"InstanceId.1": "i-bug"}, 500, "InternalError", "An internal error has occurred"),
        ("DescribeInstances", {"InstanceId.1": "i-misfit"}, 500, "InternalError", "An internal error has occurred"),
        ("DescribeInstances", {"Nonsense": "1"}, 400, "UnknownParameter", "The parameter Nonsense is not recognized"),
        ("DescribeInstances", {"NextToken": "1"}, 400, "UnsupportedOperation", "The parameter NextToken is not supported"),
        ("DescribeInstances", {"MaxResults": "x"}, 400, "InvalidParameterValue", "MaxResults"),
        ("RunInstances", {"MaxCount": "1"}, 400, "MissingParameter", "The request must contain the parameter MinCount"),
        ("RunInstances", {"MinCount": "1", "MaxCount": "1", "ClientToken": "x" * 65}, 400, "InvalidParameterValue", "ClientToken"),
        ("RunInstances", {"MinCount": "1", "MaxCount": "1", "ClientToken": "ä"}, 400, "InvalidParameterValue", "ClientToken"),
        ("CreateVolume", {}, 400, "UnsupportedOperation", "The operation CreateVolume is not supported"),
        ("Nonsense", {}, 400, "InvalidAction", "The action Nonsense is not valid for this web service."),
        ("", {}, 400, "MissingAction", "Action"),
        ("DescribeInstances", {"Action.1": "x"}, 400, "InvalidParameterCombination", "Action.1"),
    ],
)  # fmt: skip
async def test_refusals(action, parameters, status, wanted, text) -> None:
    with capture_logs() as logs:
        got, headers, body = await House().ask(action, **parameters)
    assert (got, code(body)) == (status, wanted)
    assert text in message(body)
    assert b"secret detail" not in body
    assert b"<RequestID>" + headers[b"x-amzn-requestid"] + b"</RequestID>" in body
    assert (status < 500) == (not logs)


@pytest.mark.parametrize("version", ["2017-01-01", "2016-11-15x", "", "x" * 5000, "2016-11-15\n"])
async def test_versions(version) -> None:
    house = House()
    status, _, body = await house.send(*house.signed(f"Action=DescribeInstances&Version={version}"))
    assert (status, code(body)) in {(400, "NoSuchVersion"), (400, "MissingParameter")}


async def test_query_services_have_their_own_error() -> None:
    status, _, body = await House().ask("Nonsense", service="sts")
    assert status == 400
    assert (
        b'<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>' in body
    )
    assert code(body) == "InvalidAction"


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({}, "Value null at 'accessKeyId' failed to satisfy constraint: Member must not be null"),
        ({"AccessKeyId": "x", "Colour": "1"}, "Colour"),
        ({"AccessKeyId.1": "x"}, "AccessKeyId.1"),
    ],
)  # fmt: skip
async def test_query_services_call_a_bad_form_a_validation_error(parameters, match) -> None:
    status, _, body = await House().ask("GetAccessKeyInfo", service="sts", **parameters)
    assert (status, code(body)) == (400, "ValidationError")
    assert match in message(body)


async def test_who_signs_nothing_is_answered_by_the_service_whose_version_is_asked() -> None:
    for version, head in (("2011-06-15", b"<ErrorResponse xmlns="), ("2016-11-15", b"<Response><Errors>")):
        query = f"Action=GetCallerIdentity&Version={version}".encode()
        status, _, body = await House().send({"method": "GET", "headers": [], "query_string": query})
        assert (status, code(body)) == (403, "MissingAuthenticationToken")
        assert head in body


@pytest.mark.parametrize(
    ("service", "action", "status", "wanted"),
    [
        ("ec2", "DescribeInstances", 401, "AuthFailure"),
        ("sts", "GetCallerIdentity", 403, "InvalidClientTokenId"),
    ],
)
async def test_a_session_token_beside_a_permanent_key(service, action, status, wanted) -> None:
    got, _, body = await House().ask(action, service=service, headers={"X-Amz-Security-Token": "stolen"})
    assert (got, code(body)) == (status, wanted)


async def test_a_handler_learns_where_it_was_called() -> None:
    house = House()
    await house.ask()
    assert house.calls[0][0].host == "localhost"


async def test_unsigned_and_badly_signed() -> None:
    house = House()
    status, _, body = await house.send(
        {"method": "POST", "headers": [(b"host", b"x")]}, b"Action=DescribeInstances&Version=2016-11-15"
    )
    assert (status, code(body)) == (403, "MissingAuthenticationToken")
    status, _, body = await house.send(
        *house.signed("Action=DescribeInstances&Version=2016-11-15", secret="no")
    )
    assert (status, code(body)) == (401, "AuthFailure")
    status, _, body = await house.send(
        *house.signed("Action=DescribeInstances&Version=2016-11-15", service="rds")
    )
    assert (status, code(body)) == (403, "SignatureDoesNotMatch")
    status, _, body = await house.send(
        {
            "method": "GET",
            "headers": [],
            "query_string": b"Action=X&Version=2014-10-01&AWSAccessKeyId=A&Signature=b",
        }
    )
    assert (status, code(body)) == (401, "AuthFailure")
    assert "version 2" in message(body)
    assert not house.calls


async def test_permission_comes_before_existence_and_dry_run() -> None:
    house = House()
    status, _, body = await house.ask(DryRun="true")
    assert (status, code(body)) == (412, "DryRunOperation")
    assert message(body) == "Request would have succeeded, but DryRun flag is set."
    house.policy.forbidden.add("DescribeInstances")
    for dry_run in ("true", "false"):
        status, _, body = await house.ask(DryRun=dry_run, **{"InstanceId.1": "i-aws"})
        assert (status, code(body)) == (403, "UnauthorizedOperation")
    assert not house.calls


async def test_requests_with_one_token_run_one_after_another() -> None:
    house = House()
    run = {"MinCount": "1", "MaxCount": "1"}
    answers = await asyncio.gather(*(house.ask("RunInstances", ClientToken="t", **run) for _ in range(200)))
    assert {status for status, _, _ in answers} == {200}
    assert house.most_inside == 1
    await asyncio.gather(*(house.ask("RunInstances", **run) for _ in range(20)))
    assert house.most_inside > 1
    assert not house.front._stages.turns._locks
    hashes = {call.parameter_hash for call, _ in house.calls}
    assert len(hashes) == 1  # the token is not part of it
    await house.ask("RunInstances", MinCount="1", MaxCount="2")
    assert house.calls[-1][0].parameter_hash not in hashes


async def test_the_sdks_invocation_id() -> None:
    house = House()
    await house.ask(headers={"amz-sdk-invocation-id": "8a1f-22"})
    assert house.calls[0][0].invocation_id == "8a1f-22"


async def test_throttling() -> None:
    limits = Limits(reading=Limit(2, 1), resources={"RunInstances": ResourceLimit(Limit(10, 1), "MaxCount")})
    house = House({"limits": limits})
    assert [(await house.ask())[0] for _ in range(3)] == [200, 200, 503]
    await house.clock.advance(1)
    assert (await house.ask())[0] == 200
    run = {"MinCount": "1", "MaxCount": "8"}
    assert (await house.ask("RunInstances", **run))[0] == 200
    status, _, body = await house.ask("RunInstances", **run)
    assert (status, code(body)) == (503, "RequestLimitExceeded")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "HEAD", "BREW"])
async def test_other_methods(method) -> None:
    status, headers, body = await House().send({"method": method, "headers": []})
    assert status == 405
    assert headers[b"content-type"].startswith(b"text/xml")
    assert method == "HEAD" or code(body) == "InvalidRequest"


async def test_too_much() -> None:
    house = House()
    scope = {"method": "POST", "headers": [(b"content-length", b"99999999")]}
    assert (await house.send(scope))[0] == 413
    scope["headers"] = [(b"content-length", b"9" * 5000)]
    assert (await house.send(scope))[0] == 413
    scope["headers"] = [(b"content-length", "²".encode("latin-1"))]  # a digit to Python, and no number
    assert (await house.send(scope))[0] == 400
    scope["headers"] = []
    assert (await house.send(scope, b"x" * 700_000, b"x" * 700_000))[0] == 413
    scope["headers"] = [(b"x-long", b"y" * 9000)]
    assert (await house.send(scope))[0] == 400
    many = "&".join(f"InstanceId.{n}=i" for n in range(1300))
    status, _, body = await house.send(*house.signed(f"Action=DescribeInstances&Version=2016-11-15&{many}"))
    assert (status, code(body)) == (400, "MalformedQueryString")
    long_name = await house.ask(**{"X" * 900_000: "1"})
    assert (long_name[0], code(long_name[2])) == (400, "UnknownParameter")
    assert len(long_name[2]) < 5000
    deep = await house.ask(**{"InstanceId" + ".1" * 100_000: "1"})
    assert deep[0] == 400


async def test_a_client_that_goes_away_is_not_answered() -> None:
    status, _, _ = await House().send({"method": "POST", "headers": []}, b"Action=", end=False)
    assert status is None


@pytest.mark.parametrize("body", [b"{}", b"<a/>", b"Action=DescribeInstances"])
async def test_other_content_types(body) -> None:
    scope = {"method": "POST", "headers": [(b"content-type", b"application/json")]}
    status, _, answer = await House().send(scope, body)
    assert (status, code(answer)) == (400, "InvalidRequest")


@pytest.mark.parametrize(
    "body",
    [
        b"Action=%",
        b"Action=%zz",
        b"Action=%ff",
        b"Action=\xff",
        b"Action=%00",
        b"A=1&A=2",
        b"A=1&A.1=2",
        b"A.1=2&A=1",
        b"=",
        b"&&&",
        b".=1",
        b"..=1",
    ],
)
async def test_broken_forms(body) -> None:
    house = House()
    status, _, answer = await house.send({"method": "POST", "headers": []}, body)
    assert status in {400, 403}
    assert code(answer)


async def test_health_readiness_and_metrics_need_no_signature() -> None:
    missing = ["database"]

    async def ready():
        return missing[0]

    house = House({"ready": ready, "registry": CollectorRegistry()})

    async def get(path):
        return await house.send({"method": "GET", "path": path, "raw_path": path.encode(), "headers": []})

    assert (await get("/healthz"))[0] == 200
    assert await get("/readyz") == (
        503,
        {b"content-type": b"text/plain; charset=utf-8", b"content-length": b"9"},
        b"database\n",
    )
    missing[0] = ""
    assert (await get("/readyz"))[0] == 200
    await house.ask()
    await house.ask("Nonsense" * 20)
    text = (await get("/metrics"))[2].decode()
    assert 'mallee_aws_requests_total{code="OK",operation="DescribeInstances",service="ec2"} 1.0' in text
    assert 'mallee_aws_requests_total{code="InvalidAction",operation="-",service="ec2"} 1.0' in text


async def test_requests_for_s3_go_on() -> None:
    async def s3(scope, receive, send):
        await send({"type": "http.response.start", "status": 299, "headers": []})
        await send({"type": "http.response.body", "body": b"s3"})

    house = House({"s3": s3})
    assert (await house.send(*house.signed("", service="s3")))[0] == 299
    query = b"X-Amz-Credential=A%2F20260101%2Fr%2Fs3%2Faws4_request&X-Amz-Signature=0"
    assert (await house.send({"method": "GET", "query_string": query, "headers": []}))[0] == 299
    anonymous = {"method": "GET", "path": "/bucket/key", "raw_path": b"/bucket/key", "headers": []}
    assert (await house.send(anonymous))[0] == 299
    assert (await house.ask())[0] == 200
    status, _, body = await House().send(anonymous)
    assert (status, code(body)) == (400, "InvalidRequest")


async def test_the_access_log_has_one_line_and_no_secret() -> None:
    house = House({"access_log": True})
    with capture_logs() as logs:
        _, headers, _ = await house.ask(**{"InstanceId.1": "i-secret"})
        await house.ask("Nonsense")
    first, second = logs
    assert first["request_id"] == headers[b"x-amzn-requestid"].decode()
    assert (first["operation"], first["status"], second["code"]) == (
        "DescribeInstances",
        200,
        "InvalidAction",
    )
    told = repr(logs)
    assert "i-secret" not in told
    assert SECRET not in told
    assert not re.search("[0-9a-f]{64}", told)


async def test_lifespan_and_websockets() -> None:
    house, sent = House(), []
    events = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]

    async def receive():
        return events.pop(0)

    async def send(message):
        sent.append(message["type"])

    await house.front({"type": "lifespan"}, receive, send)
    await house.front({"type": "websocket"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"]


# --- anything at all --------------------------------------------------------------------------

HOUSE = House()
raw = st.binary(max_size=60)
words = st.sampled_from([
    b"Action=DescribeInstances", b"Version=2016-11-15", b"InstanceId.1=i-1", b"Filter.1.Name=x", b"DryRun=true",
    b"X-Amz-Credential=a/b/c/ec2/aws4_request", b"X-Amz-Signature=0", b"AWSAccessKeyId=A", b"%", b"%00", b"\xff=\xff",
    b"A.B.C=1", b"Filter.1.Value.0=*", b"SignatureVersion=2", b"=",
])  # fmt: skip
forms = st.one_of(raw, st.lists(st.one_of(words, raw), max_size=8).map(b"&".join))
headers = st.lists(
    st.tuples(
        st.sampled_from([b"authorization", b"x-amz-date", b"host", b"content-type", b"content-length", b"x-amz-x", b"date"]),
        st.one_of(raw, st.sampled_from([
            b"AWS4-HMAC-SHA256 Credential=A/20260101/r/ec2/aws4_request, SignedHeaders=host, Signature=" + b"0" * 64,
            b"20260101T000000Z", b"application/x-www-form-urlencoded", b"Mon, 99 Foo 0000 99:99:99 -9999",
        ])),
    ),
    max_size=6,
)  # fmt: skip


async def check_answer(scope, *chunks) -> None:
    status, got, body = await HOUSE.send(scope, *chunks)
    assert 400 <= status < 500
    assert got[b"x-amzn-requestid"] in body
    ET.fromstring(body)


@given(st.sampled_from(["GET", "POST"]), st.binary(max_size=20), forms, headers, forms)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_bytes_make_a_5xx(method, path, query, some_headers, body) -> None:
    scope = {
        "method": method,
        "raw_path": path or b"/",
        "path": "/",
        "query_string": query,
        "headers": some_headers,
    }
    asyncio.run(check_answer(scope, body))


@given(forms)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_signed_form_makes_a_5xx(body) -> None:
    """Behind a good signature, where the parser is."""
    text = (b"Action=DescribeInstances&Version=2016-11-15&" + body).decode("latin-1")
    scope, _ = HOUSE.signed(text)
    status, _, answer = asyncio.run(HOUSE.send(scope, text.encode()))
    assert status < 500
    ET.fromstring(answer)
