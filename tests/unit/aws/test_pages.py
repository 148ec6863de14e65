from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mallee.aws.errors import AwsError, InvalidPaginationToken
from mallee.aws.pages import Page, Pager
from tests.unit.aws.requests import ADA, request

PAGER = Pager(b"a key of the cloud")


def page(token=None, max_results=None, asked=None, **more):
    return PAGER.page(asked or request(), max_results=max_results, token=token, **more)


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_a_token_leads_to_the_next_page(key) -> None:
    assert page(PAGER.next_token(request(), key), 10) == Page(key, 10)


@pytest.mark.parametrize(("asked", "limit"), [(5, 5), (1000, 1000), (None, 1000)])
def test_max_results_in_range(asked, limit) -> None:
    assert page(max_results=asked) == Page("", limit)
    assert page(default=100).limit == 100


@pytest.mark.parametrize(
    ("asked", "bound"),
    [(4, "greater than 5"), (0, "greater than 5"), (-1, "greater"), (1001, "smaller than 1000")],
)
def test_max_results_out_of_range(asked, bound) -> None:
    with pytest.raises(
        AwsError, match=rf"Value \( {asked} \) for parameter maxResults is invalid.*{bound}"
    ) as told:
        page(max_results=asked)
    assert told.value.code == "InvalidParameterValue"


@pytest.mark.parametrize(
    "other",
    [
        request(operation="DescribeVolumes"),
        request(service="iam"),
        request(parameter_hash="other"),
        request(principal=replace(ADA, account_id="000000000002")),
    ],
)
def test_a_token_is_good_for_its_own_request(other) -> None:
    with pytest.raises(AwsError, match="InvalidNextToken"):
        page(PAGER.next_token(request(), "i-1"), asked=other)


def test_a_token_of_another_cloud() -> None:
    with pytest.raises(AwsError, match="InvalidNextToken"):
        page(Pager(b"other").next_token(request(), "i-1"))


@given(st.one_of(st.text(max_size=40), st.binary(max_size=40).map(lambda raw: raw.decode("latin-1"))))
def test_garbage_is_not_a_token(token) -> None:
    with pytest.raises(AwsError, match="InvalidNextToken"):
        page(token)


def test_a_changed_token() -> None:
    token = PAGER.next_token(request(), "i-0123456789abcdef0")
    for n, letter in enumerate(token):
        changed = token[:n] + ("A" if letter != "A" else "B") + token[n + 1 :]
        with pytest.raises(AwsError, match="InvalidNextToken"):
            page(changed)
    for more in (token + "=", token + "A", token + "\n", " " + token, token[:-1]):
        with pytest.raises(AwsError, match="InvalidPaginationToken"):
            page(more, error=InvalidPaginationToken)
