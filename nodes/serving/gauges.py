"""What a reward node tells whoever watches it: counters by reason, and how long things took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..measurements import ROWS, Histogram, Measurement
from .worker import Outcome

NUMBERS: tuple[tuple[str, str, str, str], ...] = (
    ("sessions", "clients", "gauge", "Connected clients."),
    ("open_jobs", "open_requests", "gauge", "Requests without an answer yet."),
    ("store_bytes", "frame_store_bytes", "gauge", "Frames kept for requests that name them."),
    ("max_batch", "max_batch_rows", "gauge", "Most rows of a batch now."),
    ("misalignment_s", "misalignment_seconds", "gauge", "Latest frame after the end of its step."),
    ("encoded_frames", "encoded_frames", "counter", "Frames that the model encoded."),
    ("batches", "batches", "counter", "Batches that went through the model."),
    ("failed_batches", "failed_batches", "counter", "Batches in which the model raised."),
    ("duplicates", "duplicate_requests", "counter", "Requests that had come before."),
    ("cancelled", "cancelled_requests", "counter", "Requests that nobody waited for any more."),
    ("sessions_lost", "clients_lost", "counter", "Clients that fell silent."),
    ("replies_dropped", "replies_dropped", "counter", "Answers that a client did not take."),
    ("internal_errors", "internal_errors", "counter", "Defects met in the I/O thread."),
    ("handshakes_failed", "handshakes_failed", "counter", "Peers that were not let in."),
    ("strangers", "strangers_refused", "counter", "Keys that are not on the list."),
    ("rate_limited", "rate_limited_messages", "counter", "Messages above a client's rate."),
    ("ignored", "ignored_messages", "counter", "Messages of peers that sent much rubbish."),
)
"""Name among the node's statistics, name of the metric, kind, what it is."""
FAMILIES: tuple[tuple[str, str, str], ...] = (
    ("out_", "answers", "Answers by reason; OK is a score."),
    ("refused_", "refused_messages", "Messages refused before they became requests, by reason."),
)


class Gauges:
    """Distributions over the answers of a node, and its statistics under their public names."""

    def __init__(self) -> None:
        self._queue = Histogram(
            name="queue_seconds", about="From a request's arrival to the model, decoding included."
        )
        self._decode = Histogram(
            name="decode_seconds", about="Until a request's frames were checked and decoded."
        )
        self._inference = Histogram(name="inference_seconds", about="A batch in the model.")
        self._rows = Histogram(name="batch_rows", about="Rows of a batch.", bounds=ROWS)
        self._age = Histogram(
            name="frame_age_seconds", about="Age of the oldest newest frame when the model began."
        )

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        """Count the outcomes of one batch, or requests that were too late for any."""
        ran = [one for one in outcomes if one.batch]
        if ran:
            self._inference.observe(ran[0].inference_s)
            self._rows.observe(ran[0].batch)
        for one in ran:
            waited = one.started_s - one.job.arrived_s
            self._queue.observe(waited)
            self._decode.observe(one.job.decode_s)
            self._age.observe(one.job.age_s + waited)

    def measurements(
        self, stats: Mapping[str, float], *, stalled: bool
    ) -> list[Measurement | Histogram]:
        """Return everything, with the statistics of now."""
        found: list[Measurement | Histogram] = [
            Measurement.counter(name, stats.get(key, 0.0), about)
            if kind == "counter"
            else Measurement.gauge(name, stats.get(key, 0.0), about)
            for key, name, kind, about in NUMBERS
        ]
        found.append(
            Measurement.gauge("model_stalled", float(stalled), "1 while the model does not return.")
        )
        for prefix, name, about in FAMILIES:
            rows = {
                key.removeprefix(prefix): value
                for key, value in stats.items()
                if key.startswith(prefix)
            }
            if rows:
                found.append(Measurement.by_label(name, "reason", rows, about))
        return [*found, self._queue, self._decode, self._inference, self._rows, self._age]
