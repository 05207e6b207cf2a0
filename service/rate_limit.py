"""How often one client may ask: a bucket of tokens for each, refilled at a steady rate."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_network

from service.errors import RateLimitedError

MAX_CLIENTS = 10_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


class RateLimiter:
    """Remembers the `max_clients` that asked last; whoever is forgotten begins with a full bucket."""

    def __init__(
        self,
        *,
        rate: float,
        burst: int,
        max_clients: int = MAX_CLIENTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate, self._burst, self._max_clients, self._clock = rate, burst, max_clients, clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, client: str) -> None:
        """One request's token, or RateLimitedError."""
        now = self._clock()
        bucket = self._buckets.setdefault(client, _Bucket(self._burst, now))
        self._buckets.move_to_end(client)
        if len(self._buckets) > self._max_clients:
            self._buckets.popitem(last=False)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.filled_at) * self._rate)
        bucket.filled_at = now
        if bucket.tokens < 1:
            raise RateLimitedError(self._rate, (1 - bucket.tokens) / self._rate)
        bucket.tokens -= 1


def network_of(address: str) -> str:
    """The client that an address stands for: of IPv6 a /64, for one client has all of it."""
    try:
        network = ip_network(address)
    except ValueError:
        return address
    is_v6 = isinstance(network.network_address, IPv6Address)
    return str(network.supernet(new_prefix=64)) if is_v6 else address
