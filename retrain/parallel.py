"""Work on many items at once, on all cores, in order and in bounded memory."""

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice


def cores():
    """Number of processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_core_each():
    """Context in which NumPy's products keep to one core: those of several threads would else fight for all."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, "blas")


def ordered_map(function, items, workers=None, ahead=8):
    """Yield function(item) in the order of the items, several at once in threads.

    workers: threads; None: one a core.  ahead: items a thread that are under way or waiting to be taken.
    Decoding and LiteRT let other threads run.
    """
    workers, items = workers or cores(), iter(items)
    executor = ThreadPoolExecutor(workers)
    try:
        with one_core_each():
            waiting = deque(executor.submit(function, item) for item in islice(items, ahead * workers))
            while waiting:
                result = waiting.popleft().result()
                waiting.extend(executor.submit(function, item) for item in islice(items, 1))
                yield result
    finally:
        executor.shutdown(cancel_futures=True)


def chunks(items, size):
    """Yield lists of so many items, the last one of what is left."""
    items = iter(items)
    while chunk := list(islice(items, size)):
        yield chunk
