"""base64 refuses what is no ASCII with another exception than what is no base64: it came out as a 500."""

import pytest

from mallee.walrus.api.headers import customer_key
from mallee.walrus.errors import S3Error


@pytest.mark.parametrize("key", ["\U0001f998", "é" * 44, "???", ""])
def test_a_customer_key_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(S3Error) as refused:
        customer_key({"SSECustomerAlgorithm": "AES256", "SSECustomerKey": key})
    assert refused.value.code == "InvalidArgument"
