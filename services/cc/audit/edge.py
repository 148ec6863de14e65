"""What the CLC's auditor hears of a zone."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from mallee.cc import words
from mallee.cc.audit.auditor import Auditor
from mallee.cc.ledger import Ledger
from mallee.cc.watch import Watch
from mallee.domain.audit import LEFTOVER, MOST_TOLD
from mallee.rpc import cluster_pb2 as pb

PART = 500  # instances of one message: a few milliseconds


def instances(ledger: Ledger, watch: Watch) -> Iterator[pb.AuditResponse]:
    """Every instance that has not ended and is no mere claim, each as it is when its part is taken."""
    ids = iter(list(ledger.placements.rows))
    while part := list(islice(ids, PART)):
        facts = [fact for each in part if (fact := watch.fact(each)) is not None]
        yield pb.AuditResponse(instances=[words.audited(fact) for fact in facts if fact.living])


def verdict(auditor: Auditor, now: float) -> pb.AuditResponse:
    """What the last look has made certain."""
    return pb.AuditResponse(
        violations=[words.violation(found) for found in auditor.doubts.violations[:MOST_TOLD]],
        doubt_seconds=auditor.doubts.wait(now, LEFTOVER),
        end=True,
    )
