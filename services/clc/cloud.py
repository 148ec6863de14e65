"""Everything that handlers and reconcilers share: the seams and the few tables of the operator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mallee.aws.pages import Pager
from mallee.aws.protocol import Protocol
from mallee.clc.audit.auditor import Auditor
from mallee.clc.clusters import Clusters
from mallee.clc.config import ClcConfig
from mallee.clc.enrolment import Enrolment
from mallee.clc.instance_types import InstanceTypes
from mallee.clc.keys import Keys
from mallee.clc.rendered import Recent, Rendered
from mallee.clc.s3.objects import ObjectStore
from mallee.kernel.clock import Clock
from mallee.kernel.db import Database
from mallee.kernel.entropy import Entropy
from mallee.kernel.saga.engine import Engine
from mallee.kernel.secrets_box import SecretsBox


@dataclass(frozen=True, slots=True)
class Cloud:
    """What one CLC process has.

    Attributes:
        admin_account: the account that the cloud was made with; it may see nodes and move guests.
        keys: the access keys; told when one changes.
        clusters: the zones' cluster controllers.
        rendered: the XML of resources, by (id, version).
        stencils: the XML of kinds of instances, for those that are launched.
        grounds: what launches stood on, by kind; each transaction looks again.
        auditor: compares all books for ever.
        enrolment: takes machines in as nodes, if this cloud does so.
        wire: EC2's wire format, which writes those.
        sagas: runs what takes several parties: images made from instances and from images.
        objects: the object store, if this cloud has one.
    """

    config: ClcConfig
    clock: Clock
    entropy: Entropy
    db: Database
    box: SecretsBox
    keys: Keys
    clusters: Clusters
    types: InstanceTypes
    pages: Pager
    rendered: Rendered
    wire: Protocol
    admin_account: str
    auditor: Auditor
    sagas: Engine
    objects: ObjectStore | None = None
    enrolment: Enrolment | None = None
    stencils: Recent[str] = field(default_factory=Recent)
    grounds: Recent[Any] = field(default_factory=Recent)
