"""Requests that came through the cloud controller's door: who sent them is believed to the door alone."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Final

from mallee.aws.exchange import App, Receive, Scope, Send

HEADER: Final = b"x-mallee-forwarded-for"  # the door's token, a space, the client's address


def behind_door(app: App, token: Callable[[], str]) -> App:
    """The application, with the client's address of requests that the door passed on.

    Policies ask for that address, so a header that anybody may write must not decide it.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        stated = next((value for name, value in scope.get("headers", ()) if name == HEADER), None)
        if stated is not None:
            shown, _, address = stated.decode("latin-1").partition(" ")
            wanted = token()
            if wanted and hmac.compare_digest(shown.encode(), wanted.encode()):
                scope = {**scope, "client": (address, 0)}
        await app(scope, receive, send)

    return answer
