"""Documents looked at again, so that what workers were writing meanwhile is not called damage.

In this order: what the group has committed; the points; what has come into the topic since. Whatever was being written
while the points were read was in the topic by then, and not committed before: it is known, and not judged. All that was
committed before was written and swept, and its dead letters were there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from penstock.core.documents import DocumentKey
from penstock.core.inventory import Held, Sought
from penstock.core.ports import Inventory
from penstock.operate.audit.compare import Situation
from penstock.operate.audit.judge import Known, Verdict, judge
from penstock.operate.audit.table import key_of
from penstock.operate.audit.topic import Topics

CONFIRM_S = 2.0
"""Damage is looked for once more then: a worker that has lost its partition may be sweeping what it wrote late."""

DOCUMENTS = 200
"""Whose points are asked for in one request."""


class Finding(NamedTuple):
    """A document, what is known of its records, its points, and what is wrong with it."""

    document: DocumentKey
    known: Known
    points: list[Held]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Look:
    """The second look. ``situation`` is that of the moment; ``wait`` waits so many seconds."""

    topics: Topics
    inventory: Inventory
    situation: Callable[[], Situation]
    wait: Callable[[float], object]

    def at(self, documents: Sequence[DocumentKey]) -> list[Finding]:
        """Each with its kinds of damage, if it still has any after a moment."""
        first = {finding.document: finding for finding in self._once(documents)}
        if damaged := [document for document, finding in first.items() if finding.verdict.kinds]:
            self.wait(CONFIRM_S)
            for finding in self._once(damaged):
                both = set(first[finding.document].verdict.kinds)
                kinds = tuple(kind for kind in finding.verdict.kinds if kind in both)
                first[finding.document] = finding._replace(verdict=finding.verdict._replace(kinds=kinds))
        return list(first.values())

    def _once(self, documents: Sequence[DocumentKey]) -> Iterator[Finding]:
        committed = self.topics.upstream.committed()
        points = self._points(documents)
        self.topics.catch_up()
        at = self.situation()
        for document in documents:
            known, there = self.topics.known(key_of(document), committed), points.get(document, [])
            yield Finding(document, known, there, judge(known, there, at))

    def _points(self, documents: Sequence[DocumentKey]) -> Mapping[DocumentKey, list[Held]]:
        tenants: dict[str, list[str]] = {}
        for tenant, name in documents:
            tenants.setdefault(tenant, []).append(name)
        points: dict[DocumentKey, list[Held]] = {}
        for tenant, names in tenants.items():
            left = iter(names)
            while some := tuple(islice(left, DOCUMENTS)):
                for point in self.inventory.scan(Sought(tenant=tenant, documents=some)):
                    points.setdefault(DocumentKey(tenant, point.key.document), []).append(point)
        return points
