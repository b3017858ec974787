"""What the tests of the cluster do on its workers."""

import time

import numpy as np


def square(arguments, plus):
    return [number**2 + plus for (number,) in arguments]


def slow_square(arguments, seconds):
    time.sleep(seconds)
    return square(arguments, 0)


def process_seconds():
    return time.process_time()


def size_of_batch(arguments, seconds):
    time.sleep(seconds * len(arguments))
    return [len(arguments)] * len(arguments)


def page_faults(arguments):
    """Of as many arrays of a megabyte as there are arguments, each given back before the next is made."""
    import resource  # not on Windows

    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in arguments:
        np.ones(1 << 17)
    return [resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before] * len(arguments)
