# ruff: noqa: N818 - the classes bear the names that clients match on: AWS's codes
"""IAM's errors, with Amazon's codes, texts and statuses. Source: the IAM API reference."""

from __future__ import annotations

from mallee.aws.errors import CodedError


class NoSuchEntity(CodedError, status=404):
    @classmethod
    def user(cls, name: str) -> NoSuchEntity:
        return cls(f"The user with name {name} cannot be found.")

    @classmethod
    def access_key(cls, key_id: str) -> NoSuchEntity:
        return cls(f"The Access Key with id {key_id} cannot be found.")

    @classmethod
    def account(cls, name: str) -> NoSuchEntity:
        return cls(f"The account with name {name} cannot be found.")


class EntityAlreadyExists(CodedError, status=409):
    pass


class LimitExceeded(CodedError, status=409):
    pass


class DeleteConflict(CodedError, status=409):
    pass
