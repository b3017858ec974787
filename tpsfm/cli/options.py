"""Command line options, made from those that the stages of a reconstruction declare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, fields
from inspect import cleandoc
from pathlib import Path
from typing import Any, TypeVar

import click

from tpsfm.reconstruction.stage import Stage

Command = TypeVar("Command", bound=Callable[..., Any])

FOLDER = click.Path(path_type=Path)
MODEL = click.option(
    "--model", type=click.IntRange(0), default=0, show_default=True, help="Which of the map's models, 0 the largest."
)


def stage_options(*stages: type[Stage]) -> Callable[[Command], Command]:
    """Give a command the options of some stages: their own in order, then those that all stages have."""
    common = [one.name for one in fields(Stage)]
    declared = {one.name: one for stage in stages for one in fields(stage) if one.name not in common}
    declared |= {one.name: one for one in fields(Stage)}
    return options([_option(one) for one in declared.values()])


def common_options(*names: str) -> Callable[[Command], Command]:
    """Give a command some of the options that all stages have."""
    return options([_option(one) for one in fields(Stage) if one.name in names])


def _option(declared: Field) -> Callable[[Command], Command]:
    """The command line's form of a stage's option."""
    name, default, limits = declared.name.replace("_", "-"), declared.default, declared.metadata
    three_states = declared.type == "bool | None"
    switch = f"--{name}/--no-{name}" if default is True or three_states else f"--{name}"
    kind: Any = None
    least, most, above = limits["least"], limits["most"], limits["above"]
    if limits["path"]:
        kind = FOLDER
    elif limits["choices"]:
        kind = click.Choice(limits["choices"])
    elif isinstance(least, int):
        kind = click.IntRange(least, most)
    elif (least, most, above) != (None, None, None):
        kind = click.FloatRange(least if above is None else above, most, min_open=above is not None)
    shown = default is not None and default is not False
    flag = {"is_flag": True} if isinstance(default, bool) or three_states else {"type": kind}
    return click.option(switch, default=default, show_default=shown, help=limits["help"], **flag)


def options(*groups: list[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    """Give a command several click options."""

    def add(command: Command) -> Command:
        for one in reversed([one for group in groups for one in group]):
            command = one(command)
        return command

    return add


def given_options(values: dict[str, Any]) -> dict[str, Any]:
    """Those of the running command's options that the user gave, without the defaults."""
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    return {name: value for name, value in values.items() if context.get_parameter_source(name) is not default}


def example(text: str) -> Callable[[Command], Command]:
    """Add an example to a command's help."""

    def add(command: Command) -> Command:
        command.__doc__ = f"{cleandoc(command.__doc__ or '')}\n\n\b\nExample:\n  {text}"
        return command

    return add
