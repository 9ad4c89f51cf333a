"""The garbage collector of a process that holds a whole cloud.

moto's tables, botocore's models and the cluster's objects live as long as the cloud, and Python's
collector would look through all of them again and again: with five hundred nodes that is most of
the time spent on reading JSON. What is there when the cloud has started is put aside, and later
collections come less often. Refuses to know what the heap holds.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

OBJECTS, YOUNG, OLD = 50_000, 20, 50


def settle() -> Callable[[], None]:
    """Put what exists aside and collect seldom from now on; return what undoes it."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS, YOUNG, OLD)

    def undo() -> None:
        gc.unfreeze()
        gc.set_threshold(*before)

    return undo
