"""The keys that conditions of policies may ask about.

Source: "Actions, resources, and condition keys for Amazon S3", "AWS global condition context keys".
"""

from __future__ import annotations

from typing import Final

# What requests are known by (`facts`).
_PRESENT = """
    aws:SourceIp aws:SecureTransport aws:CurrentTime aws:EpochTime aws:UserAgent aws:Referer aws:PrincipalArn
    aws:PrincipalAccount aws:PrincipalType aws:userid aws:username aws:RequestedRegion aws:ResourceAccount
    aws:PrincipalIsAWSService aws:ViaAWSService
    s3:prefix s3:delimiter s3:max-keys s3:VersionId s3:LocationConstraint s3:authType s3:signatureversion
    s3:signatureAge s3:ResourceAccount s3:x-amz-acl s3:x-amz-grant-read s3:x-amz-grant-write
    s3:x-amz-grant-read-acp s3:x-amz-grant-write-acp s3:x-amz-grant-full-control s3:x-amz-copy-source
    s3:x-amz-metadata-directive s3:x-amz-server-side-encryption
    s3:x-amz-server-side-encryption-customer-algorithm s3:x-amz-server-side-encryption-aws-kms-key-id
    s3:x-amz-storage-class s3:x-amz-website-redirect-location s3:x-amz-content-sha256
    s3:x-amz-object-ownership s3:object-lock-mode s3:object-lock-retain-until-date s3:object-lock-legal-hold
    s3:object-lock-remaining-retention-days s3:RequestObjectTagKeys s3:if-match s3:if-none-match
"""
# What no request of this cloud ever has: there are no VPC endpoints, organisations, MFA, roles, access points,
# nor services that call in somebody's name.
_NEVER = """
    aws:SourceVpc aws:SourceVpce aws:SourceVpcArn aws:VpcSourceIp aws:PrincipalOrgID aws:PrincipalOrgPaths
    aws:ResourceOrgID aws:ResourceOrgPaths aws:SourceArn aws:SourceAccount aws:SourceOwner aws:SourceOrgID
    aws:SourceOrgPaths aws:MultiFactorAuthPresent aws:MultiFactorAuthAge aws:FederatedProvider
    aws:TokenIssueTime aws:CalledVia aws:CalledViaFirst aws:CalledViaLast aws:PrincipalServiceName
    aws:PrincipalServiceNamesList aws:SourceIdentity aws:Ec2InstanceSourceVpc
    aws:Ec2InstanceSourcePrivateIPv4
    s3:DataAccessPointArn s3:DataAccessPointAccount s3:AccessPointNetworkOrigin s3:TlsVersion
"""
PRESENT: Final = frozenset(_PRESENT.lower().split())
NEVER: Final = frozenset(_NEVER.lower().split())
EXISTING_TAG: Final = "s3:existingobjecttag/"
REQUESTED_TAG: Final = "s3:requestobjecttag/"


def is_known(key: str) -> bool:
    """Whether conditions on this key can be judged; `key` in small letters but for a tag's."""
    return key in PRESENT or key in NEVER or key.startswith((EXISTING_TAG, REQUESTED_TAG))


def folded(key: str) -> str:
    """The key in small letters, but for the key of a tag, which is case-sensitive."""
    name, slash, tag = key.partition("/")
    return name.lower() + slash + tag
