"""The engine's measures in the text format of Prometheus: the sums of all workers, and the signs of this moment."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from service.delivery.meter import BATCHES, DOT, GATE, GATED, LEASES_LOST, REPLIES
from service.domain.mailing import MailingState
from service.domain.tally import BUCKETS, SECONDS, WITHIN, Sums, read_labels
from service.store import Session, mailings, measures, vitals
from service.store.mailings import Counts
from service.store.vitals import Vitals

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_COUNTS = {
    REPLIES: "What relays said of letters, by class of reply, relay and provider of the mailbox",
    GATED: "Letters let through the gate",
    BATCHES: "Batches that workers had in hand and gave back",
    LEASES_LOST: "Batches that were taken from a worker, or whose mailing stopped, before it was done with them",
}
_LATENCIES = {
    GATE: "How long the gate's transaction took",
    DOT: "How long relays took to answer the final dot, of a sample of letters",
}
_SIGNS = {
    "due_seconds": "Seconds since letters that may be sent now have seen no progress; 0 where none are due",
    "ring_seconds": "Seconds since letters that were rung for have seen no progress, while no worker has any batch",
    "notice_seconds": "Seconds since the oldest notice that is due, and that no worker has, has been due",
    "lost_leases": "Batches whose lease ran out with letters under way",
    "unsettled_senders": "Worker processes of silent hosts whose journals must still decide",
    "uncertain": "Letters whose fate is unknown, of all mailings",
    "hosts": "Hosts whose sweep was seen in the last two minutes",
}


class _Reading(Collector):
    """One scrape: what was read from the database before."""

    def __init__(self, sums: Sums, found: Vitals, unfinished: dict[str, Counts]) -> None:
        self._sums, self._vitals, self._mailings = sums, found, unfinished

    def collect(self) -> Iterator[Metric]:
        """Every family, also of what has not happened yet: an alert must not wait for the first trouble."""
        for name, meaning in _COUNTS.items():
            yield self._count(name, meaning)
        for name, meaning in _LATENCIES.items():
            yield self._latency(name, meaning)
        for name, meaning in _SIGNS.items():
            yield GaugeMetricFamily(f"tydzen_{name}", meaning, value=getattr(self._vitals, name))
        held = GaugeMetricFamily(
            "tydzen_breakers", "Relays and providers that are left alone, by kind", labels=["kind"]
        )
        for kind, count in self._vitals.breakers.items():
            held.add_metric([kind], count)
        yield held
        letters = GaugeMetricFamily(
            "tydzen_deliveries", "Deliveries of unfinished mailings, by state", labels=["mailing", "state"]
        )
        for mailing, counts in self._mailings.items():
            for state, count in counts.as_dict().items():
                letters.add_metric([mailing, state], count)
        yield letters

    def _count(self, name: str, meaning: str) -> Metric:
        labels = ["reply", "provider", "relay"] if name == REPLIES else []
        family = CounterMetricFamily(f"tydzen_{name}", meaning, labels=labels)
        found = {stored: value for (known, stored), value in self._sums.items() if known == name}
        for stored, value in (found or ({} if labels else {"": 0.0})).items():
            named = read_labels(stored)
            family.add_metric([named.get(label, "") for label in labels], value)
        return family

    def _latency(self, name: str, meaning: str) -> Metric:
        family = HistogramMetricFamily(f"tydzen_{name}", meaning)
        cumulative, buckets = 0.0, []
        for bound in (*(f"{bound:g}" for bound in BUCKETS), "+Inf"):
            cumulative += self._sums.get((name + WITHIN, f"le={bound}"), 0.0)
            buckets.append((bound, cumulative))
        family.add_metric([], buckets, self._sums.get((name + SECONDS, ""), 0.0))
        return family


def exposition(session: Session) -> bytes:
    """The text of one scrape: no ids of readers, no domains but relays' names."""
    states = (MailingState.PLANNING, MailingState.SENDING, MailingState.PAUSED)
    unfinished = {
        str(mailing.id): sum(mailings.counts(session, mailing.id).values(), Counts())
        for mailing in mailings.in_states(session, states)
    }
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Reading(measures.everything(session), vitals.read(session), unfinished))
    return generate_latest(registry)
