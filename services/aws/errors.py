# ruff: noqa: N818 - the classes bear the names that clients match on: AWS's codes
"""The errors that any AWS service may answer, with Amazon's codes, texts and HTTP statuses.

Source: "Error codes for the Amazon EC2 API". A code that names a resource belongs to whoever owns
the resource. Clients retry a 5xx (and throttling codes) and give up on any other 4xx, so a 4xx
never stands for a passing fault nor a 5xx for a final one.
"""

from __future__ import annotations

from typing import ClassVar


class AwsError(Exception):
    """What the caller is told: a code to match on, a text to read, an HTTP status.

    Args:
        code: AWS's code, e.g. `InvalidParameterValue`.
        message: one or two sentences for the caller; never a secret, never a stack trace.
        status: HTTP status, 400-599.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class CodedError(AwsError):
    """An error whose class is its code: `class X(CodedError, code="A.B", status=400)`.

    Without `code` the class's name is the code; without `status` the parent's status holds.
    """

    CODE: ClassVar[str] = ""
    STATUS: ClassVar[int] = 400

    def __init_subclass__(cls, code: str = "", status: int = 0) -> None:
        super().__init_subclass__()
        cls.CODE = code or cls.__name__
        cls.STATUS = status or cls.STATUS

    def __init__(self, message: str) -> None:
        super().__init__(self.CODE, message, self.STATUS)


# --- the form of a request --------------------------------------------------------------------


class MissingAction(CodedError):
    """No `Action` in the request."""

    def __init__(self) -> None:
        super().__init__("The request must contain the parameter Action")


class InvalidAction(CodedError):
    """An action that nobody knows."""

    def __init__(self, action: str) -> None:
        super().__init__(f"The action {action} is not valid for this web service.")


class NoSuchVersion(CodedError):
    """A version of the API that is not offered."""

    def __init__(self, version: str) -> None:
        super().__init__(f"The requested version ({version}) of service is not valid.")


class MalformedQueryString(CodedError):
    """The query string or form cannot be read."""


class InvalidRequest(CodedError):
    """The HTTP request itself is not one that the service takes."""


class MethodNotAllowed(CodedError, code="InvalidRequest", status=405):
    """Neither GET nor POST."""


class RequestEntityTooLarge(CodedError, status=413):
    """More bytes than a request may have."""


class RequestTimeout(CodedError):
    """The body did not arrive in time."""


class UnknownParameter(CodedError):
    """A parameter that the model of the action does not have."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The parameter {name} is not recognized")


class MissingParameter(CodedError):
    """A required parameter was not sent."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The request must contain the parameter {name}")
        self.name = name


class ValidationError(CodedError):
    """What every service but EC2 calls a parameter that is missing, unknown or out of its range."""

    @classmethod
    def at(cls, member: str, value: object, constraint: str) -> ValidationError:
        """`constraint` ends the sentence: "Member must ..."; a value of None was not sent."""
        shown = "null" if value is None else f"'{value}'"
        return cls(
            f"1 validation error detected: Value {shown} at '{member}' failed to satisfy constraint: "
            f"Member must {constraint}"
        )


class InvalidParameter(CodedError):
    """A parameter that does not fit the state of the resource or the request."""


class InvalidParameterValue(CodedError):
    """A value out of the parameter's range or of the wrong type."""


class InvalidParameterCombination(CodedError):
    """Parameters that exclude each other."""


class InvalidParameterDependency(CodedError):
    """A parameter that needs another."""


class InvalidCharacter(CodedError):
    """A character that the parameter may not hold."""


class InvalidNextToken(CodedError):
    """A page token that this service did not make for this request."""

    def __init__(self, message: str = "The token supplied is not valid for this request.") -> None:
        super().__init__(message)


class InvalidPaginationToken(CodedError):
    """As `InvalidNextToken`, for the actions whose documentation names this code."""

    def __init__(self, message: str = "The pagination token supplied is not valid for this request.") -> None:
        super().__init__(message)


class FilterLimitExceeded(CodedError):
    """More filters or filter values than a request may carry."""


class UnsupportedOperation(CodedError):
    """Known to AWS, not offered here."""


class UnsupportedParameter(CodedError, code="UnsupportedOperation"):
    """A parameter that AWS knows and this action does not honour."""

    def __init__(self, name: str) -> None:
        super().__init__(f"The parameter {name} is not supported by this cloud.")


# --- who asks ---------------------------------------------------------------------------------


class AuthFailure(CodedError, status=401):
    """The credentials cannot be validated."""

    def __init__(self, message: str = "AWS was not able to validate the provided access credentials") -> None:
        super().__init__(message)


class MissingAuthenticationToken(CodedError, status=403):
    """The request is not signed."""

    def __init__(self) -> None:
        super().__init__("Request is missing Authentication Token")


class IncompleteSignature(CodedError):
    """A signature that lacks a part or has one that cannot be read."""


class SignatureDoesNotMatch(CodedError, status=403):
    """The signature that was sent is not the one computed here (every service but EC2)."""

    def __init__(
        self,
        message: str = "The request signature we calculated does not match the signature you provided. "
        "Check your AWS Secret Access Key and signing method.",
    ) -> None:
        super().__init__(message)


class InvalidClientTokenId(CodedError, status=403):
    """An access key or session token that does not exist (every service but EC2)."""

    def __init__(self, message: str = "The security token included in the request is invalid.") -> None:
        super().__init__(message)


class RequestExpired(CodedError):
    """The date of the signature is too far from now."""

    def __init__(self, message: str = "Request has expired.") -> None:
        super().__init__(message)


class OptInRequired(CodedError, status=401):
    """The account may not use the service."""


class UnauthorizedOperation(CodedError, status=403):
    """EC2's word for a refusal by policy."""

    def __init__(self, message: str = "You are not authorized to perform this operation.") -> None:
        super().__init__(message)


class AccessDenied(CodedError, status=403):
    """The word of IAM, STS and Auto Scaling for a refusal by policy."""


# --- how it goes ------------------------------------------------------------------------------


class DryRunOperation(CodedError, status=412):
    """What a dry run that would have succeeded answers."""

    def __init__(self) -> None:
        super().__init__("Request would have succeeded, but DryRun flag is set.")


class IdempotentParameterMismatch(CodedError):
    """One client token, two different requests."""

    def __init__(
        self,
        message: str = "The request uses the same client token as a previous, but non-identical request.",
    ) -> None:
        super().__init__(message)


class OperationNotPermitted(CodedError):
    """Forbidden by the resource itself, not by a policy."""


class RequestLimitExceeded(CodedError, status=503):
    """Too many requests; clients back off and come again."""

    def __init__(self) -> None:
        super().__init__("Request limit exceeded.")


class Unavailable(CodedError, status=503):
    """A passing fault: the same request may succeed later."""

    def __init__(self, message: str = "The service is unavailable. Please try again shortly.") -> None:
        super().__init__(message)


class StorageFull(Unavailable, code="Unavailable"):
    """Nothing can be written. It passes when somebody makes room, not by itself."""

    def __init__(self) -> None:
        super().__init__(
            "Nothing can be changed now. The disk of this cloud has no room left; what is there can still be read. "
            "Have its operator make room, then try again."
        )


class InternalError(CodedError, status=500):
    """Our bug; the log has the details under the request's id."""

    def __init__(self) -> None:
        super().__init__("An internal error has occurred")
