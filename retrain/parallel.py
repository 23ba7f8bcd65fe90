"""Work on many items at once, on all cores, in order and in bounded memory."""

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice


def cores():
    """Number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(function, items):
    """Yield function(item) in the order of the items, several at once in threads.

    At most a few items a core are under way or waiting to be taken.  Decoding and LiteRT let other threads run.
    """
    workers, items = cores(), iter(items)
    executor = ThreadPoolExecutor(workers)
    try:
        waiting = deque(executor.submit(function, item) for item in islice(items, 8 * workers))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(executor.submit(function, item) for item in islice(items, 1))
            yield result
    finally:
        executor.shutdown(cancel_futures=True)
