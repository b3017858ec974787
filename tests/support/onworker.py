"""What the tests of the cluster do on its workers."""

import time


def square(arguments, plus):
    return [number**2 + plus for (number,) in arguments]


def slow_square(arguments, seconds):
    time.sleep(seconds)
    return square(arguments, 0)


def process_seconds():
    return time.process_time()
