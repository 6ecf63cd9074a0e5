"""``refusal-steering``: the offline commands, each in a module of its own."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer
from typer.exceptions import TyperException

import refusal_steering
from refusal_steering.errors import SteeringError
from refusal_steering.tools.extras import naming_the_extra
from refusal_steering.tools.interrupt import ENDED, STATUS, ends_on_ctrl_c

_NAME = "refusal-steering"
_HELP = """The offline commands: build bundles, measure and inspect them.

Exit status 0 is a clean end, 1 means that a part could not be done and the others were, 2 a mistake
in what was given, in one line, 130 an end by Ctrl-C.
"""
# Imported when asked for: some of them load torch, matplotlib or the engine.
COMMANDS = {
    "build": ("build", "Calibrate every strategy's bundle for a model, and report on it."),
    "collect": ("collect", "Record a model's activations at the last prompt token."),
    "golden": ("golden", "Golden refusal vectors from activations (uncentred SVD)."),
    "phenomena": ("phenomena", "Draw what activations show by group and layer, as a page."),
    "train": ("train", "OmniSteer adapters from activations."),
    "gate": ("gate", "Train a gate that reads whole prompts, and put it into a bundle."),
    "thresholds": ("thresholds", "Give a gate a threshold for each set of media."),
    "risks": ("risks", "Draw what a bundle's gate sees along four prompts."),
    "calibrate": ("calibrate", "Move a bundle's threshold to a budget of harmless requests."),
    "measure": ("measure", "Measure what bundles refuse, and keep it in them."),
    "offsets": ("offsets", "Measure what neutral media add to the residual stream."),
    "import": ("import_", "Turn published checkpoints and control vectors into a bundle."),
    "inspect": ("inspect", "Show what a bundle or a foreign file holds."),
    "evaluate": ("evaluate", "Measure refusals, answers and their quality over HTTP."),
    "report": ("report", "Write the HTML report of saved measurements."),
    "omnibench": ("omnibench", "Render text requests as images, videos and speech."),
}


def app(wanted: str | None) -> typer.Typer:
    """The command line with all commands named, and only ``wanted`` imported."""
    made = typer.Typer(no_args_is_help=True, help=_HELP)
    made.callback()(_options)
    for name, (module, summary) in COMMANDS.items():
        command = _load(module) if wanted == name else _unloaded
        made.command(name, help=_help(command) if wanted == name else summary)(command)
    return made


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{_NAME} {refusal_steering.__version__}")
        raise typer.Exit


def _options(
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_say_version, is_eager=True, help="Print the version, and end."
        ),
    ] = False,
) -> None:
    """What stands before the command."""


def _help(command: Callable[..., object]) -> str:
    """The command's docstring without what it says to programmers."""
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    return "\n\n".join(text for text in paragraphs if not text.startswith("Raises"))


def _load(module: str) -> Callable[..., object]:
    command: Callable[..., object] = getattr(
        importlib.import_module(f"refusal_steering.tools.{module}"), module
    )
    return command


def _unloaded() -> None:
    """Stands in for a command that was not asked for."""


def main() -> None:
    """Run one command; what a user can correct is one line on stderr and code 2.

    A command that is ended by Ctrl-C says so, with the code that shells give it, 130.
    """
    wanted = next((word for word in _words() if not word.startswith("-")), None)
    try:
        with ends_on_ctrl_c(), naming_the_extra(wanted):
            # Without a command, the help is shown in the library's own way.
            status = app(wanted)(prog_name=_NAME, standalone_mode=wanted is None)
    except SteeringError as error:
        _end(str(error))
    except TyperException as error:
        _end(f"{error.format_message()}{_see(wanted)}")
    except KeyboardInterrupt:
        status = STATUS
    except typer.Abort:
        _end(ENDED)
    except OSError as error:
        if error.filename is None:
            raise
        _end(f"{error.filename}: {error.strerror}")
    # The library turns Ctrl-C into this status.
    if status == STATUS:
        _end(ENDED, STATUS)
    sys.exit(status if isinstance(status, int) else 0)


def _words() -> list[str]:
    """The words after the program's name; of a line that a shell completes, where it asks."""
    typed = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS")
    return sys.argv[1:] if typed is None else typed.split()[1:]


def _see(command: str | None) -> str:
    return f" (see refusal-steering {command} --help)" if command in COMMANDS else ""


def _end(reason: str, status: int = 2) -> NoReturn:
    """Say why on one line, and end."""
    typer.echo(f"refusal-steering: {' '.join(reason.split())}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
