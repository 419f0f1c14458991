"""What Prometheus is told of the cluster, as this API hears it: every API shows the same."""

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from bus.backlog import Depths
from bus.bus import Bus
from bus.signs import Signs
from schemas.node import Beat, Pulse
from schemas.state import Download
from schemas.task import LANES

INSTANCE = ["model", "node", "instance_id"]
"""Not `instance`: that is Prometheus' own name for who was scraped."""
PULSE: list[tuple[str, str, Callable[[Pulse], float]]] = [
    ("batch_size", "Sequences that decode together.", lambda pulse: pulse.rows),
    ("runner_requests", "Requests that a runner has taken up.", lambda pulse: pulse.running),
    ("runner_reading", "Sequences whose prompts it reads.", lambda pulse: pulse.reading),
    ("runner_waiting", "Requests that wait in it for a slot.", lambda pulse: pulse.waiting),
    ("batch_bytes", "Memory of what decodes.", lambda pulse: pulse.batch_bytes),
    ("prefix_cache_bytes", "Memory of the prefixes that are kept.", lambda pulse: pulse.cache_bytes),
    ("drafted_tokens", "Proposed by its model's draft since it began.", lambda pulse: pulse.drafted),
    ("accepted_tokens", "Those of them that were right.", lambda pulse: pulse.accepted),
    ("draft_lost", "1: its model's draft has failed, and is not used.", lambda pulse: pulse.draft_lost),
    ("runner_tokens_per_second", "Tokens of its answers.", lambda pulse: pulse.tokens_s),
    ("runner_step_age_seconds", "Age of the engine's step that runs.", lambda pulse: pulse.step_age_s),
    ("runner_slowest_step_seconds", "Its longest step yet.", lambda pulse: pulse.slowest_step_s),
]
BEAT: list[tuple[str, str, Callable[[Beat], float]]] = [
    ("node_cpu_ratio", "Part of all cores in use.", lambda beat: beat.cpu_percent / 100),
    ("node_memory_used_bytes", "Memory in use.", lambda beat: beat.memory_used_bytes),
    ("node_memory_free_bytes", "Memory that is left.", lambda beat: beat.memory_free_bytes),
    ("node_tokens_per_second", "Tokens of its runners' answers.", lambda beat: beat.tokens_s),
]

DOWNLOAD: list[tuple[str, str, Callable[[Download], int]]] = [
    ("here", "Bytes of a model's files that are on a node's disk.", lambda download: download.bytes_done),
    ("wanted", "Bytes of a model's files that the node needs.", lambda download: download.bytes_total),
    ("outside", "Bytes of them that came from outside.", lambda download: download.bytes_outside),
    ("peers", "Bytes of them that came from other nodes.", lambda download: download.bytes_peers),
]


def cluster_metrics(bus: Bus, signs: Signs, waiting: Depths) -> Iterator[Metric]:
    """The bus, the queue, the runners, the nodes."""
    yield GaugeMetricFamily("troupe_bus_connected", "1 while the bus can be reached.", int(bus.connected))
    yield CounterMetricFamily(
        "troupe_bus_reconnects", "Times the bus was lost and came back.", bus.connection.lives - 1
    )
    yield _queue(waiting)
    yield _instances(bus)
    yield from _downloads(bus)
    yield from _runners(bus, signs)
    yield from _nodes(signs)


def _queue(waiting: Depths) -> Metric:
    labels = ["model", "lane"]
    family = GaugeMetricFamily("troupe_queue_depth", "Requests that wait for a worker.", labels=labels)
    for model in sorted({model for model, _ in waiting}):
        for lane in LANES:
            family.add_metric([model, lane], waiting.get((model, lane), 0))
    return family


def _instances(bus: Bus) -> Metric:
    labels = ["model", "status"]
    family = GaugeMetricFamily("troupe_instances", "Placed copies of models.", labels=labels)
    found = Counter((each.spec.id, each.status) for each in bus.view.state.instances.values())
    for (model, status), count in found.items():
        family.add_metric([model, status], count)
    return family


def _downloads(bus: Bus) -> Iterator[Metric]:
    """From what each node has said of each model last."""
    for name, what, value in DOWNLOAD:
        labels = ["model", "node", "status"]
        family = GaugeMetricFamily(f"troupe_download_{name}_bytes", what, labels=labels)
        for each in bus.view.state.downloads.values():
            family.add_metric([each.model, each.node, each.status], value(each))
        yield family


def _runners(bus: Bus, signs: Signs) -> Iterator[Metric]:
    """From the last pulse of each runner; one that is silent shows nothing."""
    for name, what, value in PULSE:
        family = GaugeMetricFamily(f"troupe_{name}", what, labels=INSTANCE)
        for (node, instance), pulse in signs.pulses.items():
            placed = bus.view.state.instances.get(instance)
            family.add_metric([placed.spec.id if placed else "", node, instance], value(pulse))
        yield family


def _nodes(signs: Signs) -> Iterator[Metric]:
    """From the last beat of each node."""
    for name, what, value in BEAT:
        family = GaugeMetricFamily(f"troupe_{name}", what, labels=["node"])
        for node, beat in signs.beats.items():
            family.add_metric([node], value(beat))
        yield family
