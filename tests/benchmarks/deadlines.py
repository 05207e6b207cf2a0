"""How long after its deadline a caller hears of it, while other clients keep every core busy.

    python -m tests.benchmarks.deadlines [SECONDS]

Half of the deadlines lie before the batch can begin, half of them fall into it. The clock runs in the client, which
shares the cores: what the service takes is less.
"""

import asyncio
import itertools
import os
import random
import sys
import time
from collections.abc import Sequence

from tests.benchmarks.overload import percentile, requests
from tests.faults.clients import Answer, ask
from tests.service.conftest import running

BUSY_CLIENTS = 32
SHORT_MS, LONG_MS = (5, 100), (200, 600)
BOUND_MS = 50.0


async def measure(port: int, bodies: Sequence[bytes], seconds: float) -> list[tuple[int, Answer]]:
    """Deadlines in milliseconds, and what came of them."""
    until = time.monotonic() + seconds
    numbers, dice, asked = itertools.count(), random.Random(0), list[tuple[int, Answer]]()

    def another() -> bytes:
        return bodies[next(numbers) % len(bodies)] + os.urandom(8)

    async def busy() -> None:
        while time.monotonic() < until:
            await ask(port, another())

    async def hurried() -> None:
        while time.monotonic() < until:
            deadline_ms = dice.randint(*dice.choice([SHORT_MS, LONG_MS]))
            asked.append((deadline_ms, await ask(port, another(), more=f"X-Request-Timeout-Ms: {deadline_ms}\r\n")))

    await asyncio.gather(*(busy() for _ in range(BUSY_CLIENTS)), hurried(), hurried())
    return asked


def main(seconds: float) -> int:
    with running() as program:
        asked = asyncio.run(measure(program.port, requests(), seconds))
    late = [answer.seconds - deadline_ms / 1000 for deadline_ms, answer in asked if answer.status == 504]
    others = sum(answer.status not in (200, 504) for _, answer in asked)
    figures = {f"p{100 * share:.0f}": percentile(late, share) for share in (0.5, 0.95, 0.99, 1.0)}
    print(
        f"{len(late)} of {len(asked)} requests passed their deadline and were told so after "
        f"{', '.join(f'{name} {ms:.1f} ms' for name, ms in figures.items())}; {others} were told something else"
    )
    return bool(others or figures["p99"] > BOUND_MS)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if sys.argv[1:] else 60.0))
