"""The instruments that count and time tasks, by OpenTelemetry's metrics API.

Names that begin with ``messaging.`` are those of its semantic conventions
(opentelemetry.io/docs/specs/semconv/messaging/messaging-metrics); what they have
no name for begins with ``fastworker.``.
"""

from __future__ import annotations

from typing import Final

from opentelemetry.metrics import Meter

# In seconds: from a call that returns at once to a task that runs for a day.
BUCKETS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 86400.0),
)


class Metrics:
    """See the module's first lines."""

    def __init__(self, meter: Meter) -> None:
        self.sent = meter.create_counter(
            "messaging.client.sent.messages", "{message}", "Tasks that were submitted."
        )
        self.sending = meter.create_histogram(
            "messaging.client.operation.duration",
            "s",
            "How long a submit took.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self.started = meter.create_counter(
            "messaging.client.consumed.messages", "{message}", "Attempts that were started."
        )
        self.waiting = meter.create_histogram(
            "fastworker.task.wait.duration",
            "s",
            "How long a task waited from its submit to its first attempt.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self.processing = meter.create_histogram(
            "messaging.process.duration",
            "s",
            "How long an attempt ran.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )
        self.running = meter.create_up_down_counter(
            "fastworker.task.running", "{attempt}", "Attempts that run now."
        )
        self.ended = meter.create_counter(
            "fastworker.task.ended", "{attempt}", "Attempts that have ended, by outcome."
        )
