"""The command line: each command is one call of the API, and has a module of its own or shares it with its kin."""

from __future__ import annotations

import errno
import io
import logging
import sys
from importlib import import_module
from typing import Any

import click

from tpsfm import TpsfmError, __version__
from tpsfm.progress import Terminal

_MODULES = {
    "reconstruct": "reconstruct",
    "extract": "reconstruct",
    "pairs": "reconstruct",
    "match": "reconstruct",
    "map": "reconstruct",
    "demo": "reconstruct",
    "import": "results",
    "panoramas": "results",
    "merge": "results",
    "export": "results",
    "undistort": "results",
    "dense": "results",
    "info": "results",
    "view": "results",
    "localize": "localize",
    "train": "train",
    "adapt": "train",
    "networks": "train",
}


class Commands(click.Group):
    """Commands that are loaded when they are called; they end in one line where a user can mend what is wrong."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(_MODULES)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in _MODULES:
            return None
        return getattr(import_module(f"tpsfm.cli.{_MODULES[name]}"), f"{name}_")

    def invoke(self, context: click.Context) -> Any:
        logging.captureWarnings(True)
        for stream in (sys.stdout, sys.stderr):  # a terminal that can't print a name shows an escape
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(context)
        except TpsfmError as error:
            message = str(error)
        except KeyboardInterrupt:
            message = "stopped; the same command goes on from here"
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            message = (
                f"the disk is full ({error.filename or 'while writing'}); make room and run the same command again"
            )
        click.echo(f"Error: {message}", err=True)
        sys.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tpsfm")
def main() -> None:
    """Photos in, a 3D map out.

    \b
    Example:
      tpsfm reconstruct photos/ map/
      tpsfm view map/
    """


def terminal() -> Terminal:
    """Progress on the terminal, where warnings are shown as well."""
    progress = Terminal()

    class ToTerminal(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            progress.say(f"{record.levelname.lower()}: {record.getMessage()}")

    logging.getLogger("tpsfm").addHandler(ToTerminal(logging.WARNING))
    return progress
