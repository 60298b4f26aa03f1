"""Prometheus metrics.

Rules: the only file that imports prometheus_client. Labels are bounded: task ids that nobody declared share one label.
Calls are counted in plain dicts by their labels, and these are made into metrics when somebody reads them: the library's
own counters, each with a lock, cost a call twice as much. They are counted in batches, and before anybody reads: one by one, each would find the counting pushed out of the core's cache.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping
from itertools import accumulate
from typing import TypeVar

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from gearshift.core.answer import AttemptRecord, Completion
from gearshift.core.cache.manage import Caches
from gearshift.core.observer import CallContext, Observer
from gearshift.server.workers.figures import Family, Sample

UNDECLARED = "undeclared"
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_SCORES = (0.1, 0.25, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99, 1.0)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[str, ...]
Figure = tuple[str, str, tuple[str, str], float]
"""Name, description, provider and account, value."""

_BATCH = 128


class Metrics(Observer):
    """The service's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._ended: list[tuple[CallContext, Completion, str]] = []
        self._calls = self._counts(
            "gearshift_calls", "Calls that have ended.", ("task", "task_type", "outcome", "stream")
        )
        self._call_seconds = self._spread(
            "gearshift_call_seconds", "Time from a call's arrival to its end.", ("task_type", "stream"), _SECONDS
        )
        self._attempts = self._counts(
            "gearshift_attempts",
            "Upstream calls.",
            ("provider", "model", "position", "cause", "outcome", "failure"),
        )
        self._attempt_seconds = self._spread(
            "gearshift_attempt_seconds", "Time of an upstream call.", ("provider", "model"), _SECONDS
        )
        self._first_token_seconds = self._spread(
            "gearshift_first_token_seconds", "Time to an attempt's first token.", ("provider", "model"), _SECONDS
        )
        self._tokens = self._counts("gearshift_tokens", "Model tokens.", ("task", "provider", "model", "kind"))
        self._cost = self._counts(
            "gearshift_cost_usd",
            "What attempts cost, USD; attempts of unknown price are counted apart.",
            ("task", "provider", "model"),
        )
        self._unpriced = self._counts(
            "gearshift_unpriced_attempts", "Attempts whose price is unknown.", ("provider", "model")
        )
        self._confidence = self._spread(
            "gearshift_gate_confidence", "Measured confidence of answers.", ("task_type", "model"), _SCORES
        )
        self._verdicts = self._counts("gearshift_verdicts", "Gate verdicts.", ("gate", "result"))

    def gauge(self, name: str, description: str, read: Callable[[], float]) -> None:
        """Show a number that is read when the metrics are."""
        Gauge(name, description, registry=self.registry).set_function(read)

    def counts(self, name: str, description: str, labels: Labels, read: Callable[[], Mapping[Labels, float]]) -> None:
        """Show a counter that others keep, by its labels, read when the metrics are."""
        self.registry.register(_Read(lambda: CounterMetricFamily(name, description, labels=labels), read))

    def levels(self, name: str, description: str, labels: Labels, read: Callable[[], Mapping[Labels, float]]) -> None:
        """Show numbers that others keep, by their labels, read when the metrics are."""
        self.registry.register(_Read(lambda: GaugeMetricFamily(name, description, labels=labels), read))

    def caches(self, read: Callable[[], Caches]) -> None:
        """Show what the caches hold and did, read when the metrics are."""
        self.registry.register(_CacheFigures(read))

    def figures(self, read: Callable[[], list[Figure]]) -> None:
        """Show figures of own machines, read when the metrics are."""
        self.registry.register(_Figures(read))

    def exposition(self) -> bytes:
        """Give the metrics as text."""
        self._count_ended()
        return generate_latest(self.registry)

    def families(self) -> list[Family]:
        """Give the metrics as values, to be summed with those of other processes."""
        self._count_ended()
        return [
            Family(
                family.name,
                family.documentation,
                family.type,
                [Sample(each.name, tuple(sorted(each.labels.items())), each.value) for each in family.samples],
            )
            for family in self.registry.collect()
        ]

    def call_ended(self, context: CallContext, completion: Completion, error: str) -> None:
        """Count a call and its attempts."""
        self._ended.append((context, completion, error))
        if len(self._ended) >= _BATCH:
            self._count_ended()

    def _count_ended(self) -> None:
        ended, self._ended = self._ended, []
        for context, completion, error in ended:
            self._count_call(context, completion, error)

    def _count_call(self, context: CallContext, completion: Completion, error: str) -> None:
        resolution = context.resolution
        task = resolution.task_id if resolution.declared else UNDECLARED
        kind, stream = resolution.type.word, "true" if context.stream else "false"
        self._calls[task, kind, error.lower() or completion.outcome.word, stream] += 1
        self._call_seconds.observe((kind, stream), completion.total_ms / 1000)
        for attempt in completion.attempts:
            self._count(attempt, task)
        for verdict in completion.verdicts:
            self._verdicts[verdict.gate, verdict.result.word] += 1
        if completion.confidence is not None and completion.served_by is not None:
            self._confidence.observe((kind, completion.served_by.model), completion.confidence)

    def _count(self, attempt: AttemptRecord, task: str) -> None:
        provider, model = attempt.stage.provider, attempt.stage.model
        where = (provider, model)
        failure = attempt.failure.word if attempt.failure is not None else ""
        position = str(attempt.stage.position)
        self._attempts[provider, model, position, attempt.cause.word, attempt.outcome.word, failure] += 1
        self._attempt_seconds.observe(where, attempt.total_ms / 1000)
        if attempt.first_token_ms is not None:
            self._first_token_seconds.observe(where, attempt.first_token_ms / 1000)
        usage = attempt.usage
        if usage.input_tokens:
            self._tokens[task, provider, model, "input"] += usage.input_tokens
        if usage.output_tokens:
            self._tokens[task, provider, model, "output"] += usage.output_tokens
        if usage.cache_read_tokens:
            self._tokens[task, provider, model, "cache_read"] += usage.cache_read_tokens
        if usage.cache_write_tokens:
            self._tokens[task, provider, model, "cache_write"] += usage.cache_write_tokens
        if attempt.cost_usd is None:
            self._unpriced[where] += 1
        elif attempt.cost_usd:
            self._cost[task, provider, model] += float(attempt.cost_usd)

    def _counts(self, name: str, description: str, labels: Labels) -> defaultdict[Labels, float]:
        counts = _Counts(name, description, labels)
        self.registry.register(counts)
        return counts.values

    def _spread(self, name: str, description: str, labels: Labels, bounds: tuple[float, ...]) -> _Spread:
        spread = _Spread(name, description, labels, bounds)
        self.registry.register(spread)
        return spread


def exposition_of(families: Iterable[Family]) -> bytes:
    """Give metrics that were summed, as text."""
    registry = CollectorRegistry()
    registry.register(_Given(families))
    return generate_latest(registry)


class _Given(Collector):
    """Metrics as they were given."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Generator[Metric]:
        """Give them."""
        for family in self._families:
            metric = Metric(family.name, family.about, family.kind)
            for each in family.samples:
                metric.add_sample(each.name, dict(each.labels), each.value)
            yield metric


class _Counts(Collector):
    """A counter: a sum for each set of labels."""

    def __init__(self, name: str, description: str, labels: Labels) -> None:
        self._about = (name, description)
        self._labels = labels
        self.values: defaultdict[Labels, float] = defaultdict(float)

    def collect(self) -> Generator[CounterMetricFamily]:
        """Give the counter as it stands."""
        family = CounterMetricFamily(*self._about, labels=self._labels)
        for labels, value in self.values.items():
            family.add_metric(labels, value)
        yield family


class _Read(Collector):
    """A counter or gauge that somebody else keeps."""

    def __init__(
        self, made: Callable[[], CounterMetricFamily | GaugeMetricFamily], read: Callable[[], Mapping[Labels, float]]
    ) -> None:
        self._made = made
        self._read = read

    def collect(self) -> Generator[CounterMetricFamily | GaugeMetricFamily]:
        """Give it as it stands."""
        family = self._made()
        for labels, value in self._read().items():
            family.add_metric(labels, value)
        yield family


class _Spread(Collector):
    """A histogram: for each set of labels how many values fell below each bound, and their sum."""

    def __init__(self, name: str, description: str, labels: Labels, bounds: tuple[float, ...]) -> None:
        self._about = (name, description)
        self._labels = labels
        self._bounds = bounds
        self._names = [*map(str, bounds), "+Inf"]
        self._counts: dict[Labels, list[int]] = {}
        self._sums: defaultdict[Labels, float] = defaultdict(float)

    def observe(self, labels: Labels, value: float) -> None:
        """Note a value."""
        counts = self._counts.get(labels)
        if counts is None:
            counts = self._counts[labels] = [0] * len(self._names)
        counts[bisect_left(self._bounds, value)] += 1
        self._sums[labels] += value

    def collect(self) -> Generator[HistogramMetricFamily]:
        """Give the histogram as it stands."""
        family = HistogramMetricFamily(*self._about, labels=self._labels)
        for labels, counts in self._counts.items():
            buckets = list(zip(self._names, accumulate(counts), strict=True))
            family.add_metric(labels, buckets=buckets, sum_value=self._sums[labels])
        yield family


class _Figures(Collector):
    """Figures by provider and account; those whose names end in `_total` are counters."""

    def __init__(self, read: Callable[[], list[Figure]]) -> None:
        self._read = read

    def collect(self) -> Generator[CounterMetricFamily | GaugeMetricFamily]:
        """Give the figures as they stand."""
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for name, description, labels, value in self._read():
            if name not in families:
                kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
                families[name] = kind(name, description, labels=("provider", "account"))
            families[name].add_metric(labels, value)
        yield from families.values()


class _CacheFigures(Collector):
    """The caches' own figures; a cache's name is the only label."""

    def __init__(self, read: Callable[[], Caches]) -> None:
        self._read = read

    def collect(self) -> Generator[CounterMetricFamily | GaugeMetricFamily]:
        """Give the figures as they stand."""
        caches = self._read()
        counts = caches.counts()
        yield _by_cache(
            CounterMetricFamily("gearshift_cache_hits", "Look-ups that found their entry.", labels=("cache",)),
            {name: each.hits for name, each in counts.items()},
        )
        yield _by_cache(
            CounterMetricFamily("gearshift_cache_misses", "Look-ups that did not.", labels=("cache",)),
            {name: each.misses for name, each in counts.items()},
        )
        yield _by_cache(
            CounterMetricFamily(
                "gearshift_cache_evictions", "Entries that were pushed out or ran out of time.", labels=("cache",)
            ),
            {name: each.evictions for name, each in counts.items()},
        )
        yield _by_cache(
            CounterMetricFamily(
                "gearshift_cache_shared", "Calls that joined another one that was running.", labels=("cache",)
            ),
            caches.shared(),
        )
        yield _by_cache(
            CounterMetricFamily(
                "gearshift_cache_saved_usd", "What calls would have cost without a cache, USD.", labels=("cache",)
            ),
            caches.saved_usd(),
        )
        yield _by_cache(
            GaugeMetricFamily("gearshift_cache_entries", "Entries.", labels=("cache",)),
            {name: each.entries for name, each in counts.items()},
        )
        yield _by_cache(
            GaugeMetricFamily("gearshift_cache_bytes", "The size of all entries.", labels=("cache",)),
            {name: each.bytes for name, each in counts.items()},
        )


F = TypeVar("F", CounterMetricFamily, GaugeMetricFamily)


def _by_cache(family: F, values: Mapping[str, float]) -> F:
    for name, value in values.items():
        family.add_metric((name,), value)
    return family
