"""The slow twin of the scheduler: looks at every host for every question."""

from mallee.cc.scheduler.filters import Question, refusal
from mallee.cc.scheduler.inventory import Host, Inventory


def choose(inventory: Inventory, question: Question) -> Host | None:
    able = [host for host in inventory if refusal(host, question) is None]
    return min(able, key=lambda host: (host.score, host.index), default=None)
