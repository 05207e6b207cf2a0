"""A run as Prometheus sees it: on a port while it lasts, or in a file that node_exporter's textfile collector reads."""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    start_http_server,
    write_to_textfile,
)

from trainer.loop import Progress

WRITE_EVERY_S = 10.0

logger = logging.getLogger(__name__)


class RunMetrics:
    """Numbers of the epoch that goes on, and of the last one that was judged; kept in `textfile`, if there is one."""

    def __init__(self, registry: CollectorRegistry, textfile: Path | None = None) -> None:
        def gauge(name: str, documentation: str) -> Gauge:
            return Gauge(f"caption_trainer_{name}", documentation, registry=registry)

        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry, self._textfile = registry, textfile
        self._epoch = gauge("epoch", "Epochs that have ended, over all stages.")
        self._planned = gauge("planned_epochs", "Epochs of all stages.")
        self._loss = gauge("loss", "Mean over the words of this epoch so far.")
        self._images_per_second = gauge("images_per_second", "Mean over this epoch so far, of all processes.")
        self._images = Counter("caption_trainer_images", "Photos learned from.", registry=registry)
        self._learning_rate = gauge("learning_rate", "Of the decoder.")
        self._score = gauge("val_cider_d", "CIDEr-D times 100 of the last epoch's captions of the validation photos.")
        self._best_score = gauge("best_val_cider_d", "The best of these scores in this run.")
        self._updated_at = gauge("last_update_timestamp_seconds", "When a step or an epoch last ended.")
        self._images_before = 0.0
        self._written_at = 0.0

    def begin(self, planned_epochs: int, lines: list[dict[str, Any]]) -> None:
        """A run begins, or goes on after the epochs of `lines`. Raises OSError if the file cannot be written."""
        self._planned.set(planned_epochs)
        if lines:
            self._note_epoch(lines[-1], max(line["val"]["CIDEr-D"] for line in lines))
        self._updated_at.set_to_current_time()
        self._write()

    def after_step(self, progress: Progress, learning_rate: float) -> None:
        self._loss.set(progress.loss / progress.words)
        self._images_per_second.set(progress.images / progress.seconds)
        self._images.inc(progress.images - self._images_before)
        self._images_before = progress.images
        self._learning_rate.set(learning_rate)
        self._updated_at.set_to_current_time()
        if time.monotonic() - self._written_at > WRITE_EVERY_S:
            self._write_if_possible()

    def after_epoch(self, line: Mapping[str, Any], best_score: float) -> None:
        self._note_epoch(line, best_score)
        self._images_before = 0.0
        self._updated_at.set_to_current_time()
        self._write_if_possible()

    def _note_epoch(self, line: Mapping[str, Any], best_score: float) -> None:
        self._epoch.set(line["epoch"])
        self._loss.set(line["loss"])
        self._images_per_second.set(line["images_per_second"])
        self._learning_rate.set(line["learning_rate"])
        self._score.set(line["val"]["CIDEr-D"])
        self._best_score.set(best_score)

    def _write_if_possible(self) -> None:
        """A full disk is no reason to end a run."""
        try:
            self._write()
        except OSError as error:
            logger.warning("%s is not written: %s", self._textfile, error)

    def _write(self) -> None:
        self._written_at = time.monotonic()
        if self._textfile:
            write_to_textfile(str(self._textfile), self._registry)


@contextlib.contextmanager
def exposed(*, port: int | None, textfile: Path | None) -> Iterator[RunMetrics]:
    """On `port` (0 chooses one) until the context is left. Raises OSError if it is taken."""
    registry = CollectorRegistry()
    metrics = RunMetrics(registry, textfile)
    if port is None:
        yield metrics
        return
    server, thread = start_http_server(port, registry=registry)
    logger.info("metrics on http://%s:%d/metrics", server.server_name, server.server_port)
    try:
        yield metrics
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
