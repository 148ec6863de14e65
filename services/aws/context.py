"""What one request knows about itself, from its envelope and its signature."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """Who signed.

    Attributes:
        account_id: twelve digits.
        arn: e.g. `arn:aws:iam::000000000001:user/ada`, or `...:root`.
        user_id: `AIDA...`; the account id for a root.
        access_key_id: the key that signed, never its secret.
        is_root: the account's owner, whom no policy of the account limits.
    """

    account_id: str
    arn: str
    user_id: str
    access_key_id: str
    is_root: bool = False


@dataclass(slots=True, kw_only=True)
class Request:
    """One authenticated request, before its action.

    Attributes:
        request_id: a UUID; in the answer's header and body and in every log line.
        service: the credential scope's: `ec2`, `iam`, `sts`, `autoscaling`.
        operation: the action's name.
        version: the API version that was asked, `2016-11-15`.
        region: the credential scope's.
        client_token: EC2's `ClientToken`, at most 64 ASCII characters.
        invocation_id: the SDK's, the same over all its attempts at one call.
        parameter_hash: of the parsed parameters without ClientToken, DryRun, AvailabilityZone,
            Region: two requests with one client token must agree in it.
        dry_run: whether only the permission is asked for.
        host: where the caller reached the front door, with the port; it is signed.
    """

    request_id: str
    service: str
    operation: str
    version: str
    region: str
    principal: Principal
    client_token: str | None = None
    invocation_id: str | None = None
    parameter_hash: str = ""
    dry_run: bool = False
    host: str = ""
    source_ip: str = ""
    user_agent: str = ""
