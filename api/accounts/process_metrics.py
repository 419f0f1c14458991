"""What Prometheus is told of this process, on every system alike."""

from collections.abc import Iterator

import psutil
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


def process_metrics() -> Iterator[Metric]:
    """The node's process: the API, and the other actors that run in it; runners are processes of their own."""
    process = psutil.Process()
    with process.oneshot():
        times, memory = process.cpu_times(), process.memory_info()
        yield CounterMetricFamily(
            "troupe_process_cpu_seconds", "Processor time used.", times.user + times.system
        )
        yield GaugeMetricFamily("troupe_process_resident_memory_bytes", "Memory held.", memory.rss)
        yield GaugeMetricFamily("troupe_process_open_fds", "Open file descriptors.", process.num_fds())
        yield GaugeMetricFamily("troupe_process_threads", "Threads.", process.num_threads())
        yield GaugeMetricFamily(
            "troupe_process_start_time_seconds", "Unix time of its start.", process.create_time()
        )
