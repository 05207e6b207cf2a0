"""How a batcher ends what it does not caption, without a word of HTTP:

BatcherError
 + QueueFullError          refused at once; says when to come back
 + DrainingError           refused: closing
 + DeadlineExceededError   the caller's time ran out, queued or running
 + BatchItemError          this one item fails even alone; its neighbours are answered
 + WorkerDiedError         the worker thread that had it is gone, or all of them are
"""


class BatcherError(RuntimeError):
    retry_after_s: float | None = None


class QueueFullError(BatcherError):
    def __init__(self, waiting: int, wait_s: float) -> None:
        self.retry_after_s = max(1.0, wait_s)
        super().__init__(f"the queue is full: {waiting} are waiting; come back in {self.retry_after_s:.0f} s")


class DrainingError(BatcherError):
    retry_after_s = 5.0


class DeadlineExceededError(BatcherError):
    def __init__(self, timeout_s: float) -> None:
        super().__init__(f"no answer within {timeout_s:.3g} s")


class BatchItemError(BatcherError):
    pass


class WorkerDiedError(BatcherError):
    retry_after_s = 5.0
