"""What traces cost: CPU time per request of the service with tracing, over that without; and how long /metrics takes.

`python -m tests.benchmarks.tracing --turns 20 --requests 400 --clients 8 --scrapes 40`

In each turn both answer the same requests, one after the other, in an order that alternates, while the other is halted.
The spans go to a receiver in a process of its own. Then /metrics is asked while 32 clients keep all CPUs busy.
"""

import argparse
import os
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.bounds import OURS
from tests.benchmarks.contestants import Running, contestants, start
from tests.benchmarks.figures import bootstrap_median, percentile
from tests.benchmarks.load import Connection, Target, put_load
from tests.benchmarks.pictures import write_pictures
from tests.benchmarks.processes import Program, calibrate, end_by_exit, free_port
from tests.benchmarks.records import append

BUILD = Path("build/bench")
FILE = BUILD / "tracing.jsonl"
DRAWN, WARM = 64, 200
BOUND, SCRAPE_BOUND_MS = 1.03, 50.0
SATURATING, SCRAPE_EVERY_S = 32, 0.25
SCRAPE = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n"


class UnansweredError(RuntimeError):
    pass


def ask(running: Running, pictures: list[bytes], count: int, clients: int) -> None:
    """`count` requests, of so many clients at a time; each must be answered with a caption."""
    requests = [running.contestant.request(picture) for picture in pictures]
    numbers, lock, failed = iter(range(count)), threading.Lock(), list[int]()

    def client() -> None:
        connection = Connection(running.port)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                break
            if (status := connection.ask(requests[number % len(requests)]).status) != 200:
                failed.append(status)
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise UnansweredError(f"{len(failed)} of {count} requests were answered with {set(failed)}")


def cpu_per_request(running: Running, pictures: list[bytes], count: int, clients: int) -> float:
    """Seconds; the service is halted before and after."""
    running.program.resume()
    before = running.program.cpu_seconds()
    ask(running, pictures, count, clients)
    used = running.program.cpu_seconds() - before
    running.program.halt()
    return used / count


def scrape_ms(running: Running, pictures: list[bytes], scrapes: int) -> list[float]:
    """How long each of `scrapes` takes while the service has more to do than it can."""
    running.program.resume()
    requests = [running.contestant.request(picture) for picture in pictures]
    target = Target(running.port, requests, [""] * len(requests), running.contestant.caption_in)
    load = threading.Thread(
        target=put_load, args=(target,), kwargs={"clients": SATURATING, "seconds": scrapes * SCRAPE_EVERY_S + 1}
    )
    load.start()
    time.sleep(1)
    connection, took = Connection(running.port), list[float]()
    for _ in range(scrapes):
        began = time.perf_counter()
        connection.ask(SCRAPE)
        took.append(1000 * (time.perf_counter() - began))
        time.sleep(max(0.0, SCRAPE_EVERY_S - took[-1] / 1000))
    load.join()
    running.program.halt()
    return took


def with_tracing(sink: int) -> Mapping[str, str]:
    return {"CAPTION_TRACING": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{sink}"}


def run(options: argparse.Namespace, stack: ExitStack) -> None:
    pictures = [path.read_bytes() for path in write_pictures(BUILD / "pictures", DRAWN)]
    port = free_port()
    sink = Program(
        [sys.executable, "-m", "tests.benchmarks.otlp_sink", str(port)],
        log=BUILD / "logs/sink.log",
        environment=os.environ,
    )
    stack.callback(sink.stop)
    plain = contestants(options.service_python)[OURS]
    traced = replace(plain, name="traced", environment={**(plain.environment or {}), **with_tracing(port)})
    services: dict[str, Running] = {}
    for contestant in (plain, traced):
        services[contestant.name] = start(contestant, pictures[0], BUILD / "logs")
        stack.callback(services[contestant.name].program.stop)
        cpu_per_request(services[contestant.name], pictures, options.warm, options.clients)
    ratios = []
    for turn in range(options.turns):
        order = [plain.name, traced.name] if turn % 2 else [traced.name, plain.name]
        used = {name: cpu_per_request(services[name], pictures, options.requests, options.clients) for name in order}
        ratios.append(used[traced.name] / used[plain.name])
        append(FILE, {"run": options.run, "turn": turn, "cpu_s": used, "calibration": calibrate()})
        print(f"turn {turn + 1} of {options.turns}: {used}, ratio {ratios[-1]:.4f}", flush=True)
    interval, sent = bootstrap_median(ratios), int(Connection(port).ask(SCRAPE).body)
    verdict = "met" if interval.median <= BOUND and sent else "MISSED"
    print(f"CPU with traces / without: {interval}, <= {BOUND}: {verdict}; {sent} bytes of spans were received")
    if options.scrapes:
        for name, running in services.items():
            took = scrape_ms(running, pictures, options.scrapes)
            middle, late, worst = (percentile(took, percent) for percent in (50, 95, 100))
            verdict = "met" if late < SCRAPE_BOUND_MS else "MISSED"
            print(f"/metrics of {name}: p50 {middle:.1f} ms, p95 {late:.1f} ms, at most {worst:.1f} ms; ", end="")
            print(f"p95 < {SCRAPE_BOUND_MS} ms: {verdict}")
            append(FILE, {"run": options.run, "turn": 0, "load": "/metrics", "name": name, "milliseconds": took})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.tracing")
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--requests", type=int, default=400, help="of each service in each turn")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--warm", type=int, default=WARM, help="requests before the first turn")
    parser.add_argument("--scrapes", type=int, default=40, help="of /metrics under load; 0: none")
    parser.add_argument("--service-python", default=sys.executable, help="with the extra otel")
    options = parser.parse_args()
    options.run = time.strftime("%Y-%m-%dT%H:%M:%S")
    end_by_exit()
    with ExitStack() as stack:
        run(options, stack)


if __name__ == "__main__":
    main()
