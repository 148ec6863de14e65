"""Which role may call which method: what is not listed is refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mallee.kernel.rpc.identity import ANYONE, Identity


class AccessTable:
    """The roles that may call each method, by its full name `/package.Service/Method`.

    `"*"` as a role is every service of the cloud; `ANYONE` also a caller without a certificate
    (who reaches only ports that ask for none).
    """

    def __init__(self, roles_by_method: Mapping[str, Iterable[str]]) -> None:
        self.roles_by_method = {method: frozenset(roles) for method, roles in roles_by_method.items()}

    def allows(self, caller: Identity, method: str) -> bool:
        roles = self.roles_by_method.get(method)
        if roles is None:
            return False
        return caller.role in roles or ANYONE in roles or ("*" in roles and caller.role != ANYONE)

    def __or__(self, other: AccessTable) -> AccessTable:
        """Both tables; the roles of a method that is in both are joined."""
        joined = dict(self.roles_by_method)
        for method, roles in other.roles_by_method.items():
            joined[method] = joined.get(method, frozenset()) | roles
        return AccessTable(joined)


# What every server answers: is it well, and what does it speak.
COMMON = AccessTable(
    {
        "/grpc.health.v1.Health/Check": {ANYONE},
        "/grpc.health.v1.Health/List": {"*"},
        "/grpc.health.v1.Health/Watch": {"*"},
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": {"*"},
    }
)
