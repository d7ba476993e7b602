"""What the lag exporter tells Prometheus: how far consumer groups are behind, whether they run or not."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from penstock.core.records import Partition
from penstock.observe.metrics import Metrics

STALE_S = 60.0
"""Figures that are older are told no more: none is better than a wrong one."""


class Behind(NamedTuple):
    """``records`` of a partition that its group has not committed; the first of them was produced at ``since_s``.

    In seconds since 1970; None where there is no such record, or its time is not known.
    """

    records: int
    since_s: float | None


class GroupLag(NamedTuple):
    """Of one consumer group; ``members`` is how many consumers are in it."""

    group: str
    members: int
    partitions: Mapping[Partition, Behind]


class LagMetrics(Metrics):
    """The latest answer of the brokers, and when it came."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """``clock`` in seconds since 1970."""
        super().__init__()
        self._lags = _Lags(clock)
        self.registry.register(self._lags)

    def answered(self, lags: Sequence[GroupLag]) -> None:
        """All groups, as they are now."""
        self._lags.answered(lags)


class _Lags(Collector):
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._answer = clock(), list[GroupLag]()

    def answered(self, lags: Sequence[GroupLag]) -> None:
        self._answer = self._clock(), list(lags)

    @override
    def collect(self) -> Iterator[Metric]:
        now_s, (answered_s, lags) = self._clock(), self._answer
        yield GaugeMetricFamily(
            "penstock_lag_answered_timestamp_seconds",
            "When the brokers last told of all groups, since 1970; before the first answer, when the exporter began.",
            answered_s,
        )
        place = ["group", "topic", "partition"]
        members = GaugeMetricFamily("penstock_lag_members", "Consumers in a group; 0: nobody reads.", labels=["group"])
        records = GaugeMetricFamily(
            "penstock_lag_records",
            "Records of a partition that its group has not committed; all that it holds, where it has committed none.",
            labels=place,
        )
        seconds = GaugeMetricFamily(
            "penstock_lag_seconds", "Age of the first record of a partition that is not committed; 0 without lag.",
            labels=place,
        )  # fmt: skip
        fresh = lags if now_s - answered_s < STALE_S else []
        for group, count in {lag.group: lag.members for lag in fresh}.items():
            members.add_metric([group], count)
        each = {(lag.group, *at): behind for lag in fresh for at, behind in lag.partitions.items()}
        for (group, topic, number), behind in each.items():
            where = [group, topic, str(number)]
            records.add_metric(where, behind.records)
            if behind.since_s is not None or not behind.records:
                seconds.add_metric(where, max(0.0, now_s - (behind.since_s or now_s)))
        yield from (members, records, seconds)
