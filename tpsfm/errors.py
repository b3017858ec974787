"""The one exception that stands for a mistake a user can mend."""


class TpsfmError(Exception):
    """A user's error, told in one line: what is wrong, in which file, what to do.

    The command line prints it without a traceback and exits with status 1.
    """
