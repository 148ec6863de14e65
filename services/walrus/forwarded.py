"""Requests that came through the cloud controller's door: who sent them, and whether over TLS, is believed to the door alone."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Final

from mallee.aws.exchange import App, Receive, Scope, Send

HEADER: Final = (
    b"x-mallee-forwarded-for"  # the door's token, the client's address and scheme, with spaces between
)


def behind_door(app: App, token: Callable[[], str]) -> App:
    """The application, with the client's address and scheme of requests that the door passed on.

    Policies ask for both, so a header that anybody may write must not decide them.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        stated = next((value for name, value in scope.get("headers", ()) if name == HEADER), None)
        if stated is not None:
            shown, _, rest = stated.decode("latin-1").partition(" ")
            address, _, scheme = rest.partition(" ")
            wanted = token()
            if wanted and hmac.compare_digest(shown.encode(), wanted.encode()):
                scope = {**scope, "client": (address, 0), "scheme": scheme or "http"}
        await app(scope, receive, send)

    return answer
