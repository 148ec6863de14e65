# ruff: noqa: N818 - the classes bear the names that clients match on: AWS's codes
"""EC2's errors about resources, with Amazon's codes and texts.

Source: "Error codes for the Amazon EC2 API". Another account's resource is one that does not exist.
"""

from __future__ import annotations

from mallee.aws.errors import CodedError


def _not_exist(what: str, ids: tuple[str, ...]) -> str:
    many = len(ids) > 1
    return f"The {what}{' IDs' if many else ' ID'} '{', '.join(ids)}' {'do' if many else 'does'} not exist"


class _NotFound(CodedError):
    WHAT = ""

    def __init__(self, *ids: str) -> None:
        super().__init__(_not_exist(self.WHAT, ids))


class _Malformed(CodedError):
    SHAPE = ""

    def __init__(self, given: str) -> None:
        super().__init__(f'Invalid id: "{given}" (expecting "{self.SHAPE}")')


class InvalidInstanceIDNotFound(_NotFound, code="InvalidInstanceID.NotFound"):
    WHAT = "instance"


class InvalidInstanceIDMalformed(_Malformed, code="InvalidInstanceID.Malformed"):
    SHAPE = "i-..."


class IncorrectInstanceState(CodedError):
    pass


class IncorrectState(CodedError):
    pass


class InsufficientInstanceCapacity(CodedError, status=500):
    pass


class InstanceLimitExceeded(CodedError):
    pass


class InvalidAMIIDNotFound(_NotFound, code="InvalidAMIID.NotFound"):
    def __init__(self, *ids: str) -> None:
        CodedError.__init__(self, f"The image id '[{', '.join(ids)}]' does not exist")


class InvalidAMIIDMalformed(_Malformed, code="InvalidAMIID.Malformed"):
    SHAPE = "ami-..."


class InvalidAMIIDUnavailable(CodedError, code="InvalidAMIID.Unavailable"):
    pass


class InvalidAMINameMalformed(CodedError, code="InvalidAMIName.Malformed"):
    def __init__(self) -> None:
        super().__init__(
            "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, spaces,"
            " and only the following characters: ( ) [ ] . / - ' @ _"
        )


class InvalidUserIDMalformed(CodedError, code="InvalidUserID.Malformed"):
    def __init__(self, given: str) -> None:
        super().__init__(f'Invalid user id: "{given}"')


class InvalidAMINameDuplicate(CodedError, code="InvalidAMIName.Duplicate"):
    pass


class InvalidManifest(CodedError):
    """What an image's location names is not there, not the caller's to read, or no image."""


class InvalidAMIAttributeItemValue(CodedError):
    def __init__(self, given: str, kind: str) -> None:
        super().__init__(f'Invalid attribute item value "{given}" for {kind} item type.')


class InvalidBlockDeviceMapping(CodedError):
    pass


class InvalidKeyPairNotFound(CodedError, code="InvalidKeyPair.NotFound"):
    def __init__(self, *names: str) -> None:
        many = len(names) > 1
        super().__init__(
            f"The key pair{'s' if many else ''} '{', '.join(names)}' do{'' if many else 'es'} not exist"
        )


class InvalidKeyPairDuplicate(CodedError, code="InvalidKeyPair.Duplicate"):
    def __init__(self, name: str) -> None:
        super().__init__(f"The keypair already exists: {name}")


class InvalidKeyFormat(CodedError, code="InvalidKey.Format"):
    def __init__(self) -> None:
        super().__init__("Key is not in valid OpenSSH public key format")


class InvalidGroupNotFound(CodedError, code="InvalidGroup.NotFound"):
    def __init__(self, *ids: str) -> None:
        many = len(ids) > 1
        super().__init__(
            f"The security group{'s' if many else ''} '{', '.join(ids)}' do{'' if many else 'es'} not exist"
        )


class InvalidGroupIdMalformed(_Malformed, code="InvalidGroupId.Malformed"):
    SHAPE = "sg-..."


class InvalidGroupDuplicate(CodedError, code="InvalidGroup.Duplicate"):
    pass


class InvalidGroupInUse(CodedError, code="InvalidGroup.InUse"):
    pass


class InvalidPermissionNotFound(CodedError, code="InvalidPermission.NotFound"):
    pass


class InvalidPermissionDuplicate(CodedError, code="InvalidPermission.Duplicate"):
    pass


class InvalidPermissionMalformed(CodedError, code="InvalidPermission.Malformed"):
    pass


class InvalidSecurityGroupRuleIdNotFound(_NotFound, code="InvalidSecurityGroupRuleId.NotFound"):
    WHAT = "security group rule"


class InvalidSecurityGroupRuleIdMalformed(_Malformed, code="InvalidSecurityGroupRuleId.Malformed"):
    SHAPE = "sgr-..."


class SecurityGroupsPerInterfaceLimitExceeded(CodedError):
    def __init__(self) -> None:
        super().__init__("The maximum number of security groups per interface has been reached.")


class RulesPerSecurityGroupLimitExceeded(CodedError):
    pass


class InvalidPrefixListIdNotFound(_NotFound, code="InvalidPrefixListID.NotFound"):
    WHAT = "prefix list"


class CannotDelete(CodedError):
    pass


class VPCIdNotSpecified(CodedError):
    pass


class DependencyViolation(CodedError):
    pass


class InvalidVpcIDNotFound(_NotFound, code="InvalidVpcID.NotFound"):
    WHAT = "vpc"


class InvalidSubnetIDNotFound(_NotFound, code="InvalidSubnetID.NotFound"):
    WHAT = "subnet"


class InvalidNetworkInterfaceIDNotFound(_NotFound, code="InvalidNetworkInterfaceID.NotFound"):
    WHAT = "networkInterface"


class InvalidNetworkInterfaceIdMalformed(_Malformed, code="InvalidNetworkInterfaceId.Malformed"):
    SHAPE = "eni-..."


class InsufficientFreeAddressesInSubnet(CodedError):
    pass


class InvalidIPAddressInUse(CodedError, code="InvalidIPAddress.InUse"):
    pass


class InvalidID(CodedError):
    def __init__(self, given: str) -> None:
        super().__init__(f"The ID '{given}' is not valid")


class TagLimitExceeded(CodedError):
    pass


class InvalidUserDataMalformed(CodedError, code="InvalidUserData.Malformed"):
    pass


class InvalidInstanceAttributeValue(CodedError):
    pass


class InvalidInstanceType(CodedError):
    def __init__(self, *names: str) -> None:
        super().__init__(f"The following supplied instance types do not exist: [{', '.join(names)}]")


class InvalidHostIDNotFound(_NotFound, code="InvalidHostID.NotFound"):
    WHAT = "host"


class InvalidMigrationIDNotFound(_NotFound, code="InvalidMigrationID.NotFound"):
    WHAT = "migration"


class MigrationNotPossible(CodedError):
    """Mallee's own: no destination will do; the message says why for each."""
