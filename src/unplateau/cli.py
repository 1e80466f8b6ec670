"""The command line: the verbs of the Python API with the same argument names, and no logic of its own."""

from __future__ import annotations

import signal
import sys
import warnings

import typer

from unplateau.commands.answering import calibrate, demo, predict
from unplateau.commands.choosing import eyechart, rank
from unplateau.commands.diagnosing import curve, diagnose, report
from unplateau.commands.training import compare, pretrain, train
from unplateau.commands.upgrading import distil, extractors, upgrade
from unplateau.errors import Doubt, UnplateauError
from unplateau.files import why

COMMANDS = (
    diagnose,
    curve,
    train,
    compare,
    pretrain,
    upgrade,
    extractors,
    eyechart,
    rank,
    distil,
    calibrate,
    predict,
    report,
    demo,
)
"""In the order in which the help lists them."""

LISTED = ("--recipes", "--teachers")
"""The options that take as many values as follow them."""

AGAIN = "What is finished is kept: run the same command again to go on from there."
INTERRUPTED = 128 + signal.SIGINT


def command_line() -> typer.Typer:
    """Every command under one program."""
    app = typer.Typer(
        help="Say why a segmentation's IoU stopped, and what each remedy would gain.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for command in COMMANDS:
        app.command()(command)
    return app


def main(argv: list[str] | None = None) -> int:
    """Run a command; 0 when done, 2 with one sentence on stderr when the input or the user stopped it.

    What is odd but stops nothing is a sentence on stderr too.
    """
    written = warnings.formatwarning
    warnings.formatwarning = _said_plainly
    try:
        with warnings.catch_warnings():
            # Workers keep their memory (`training/devices.py`) and are renewed for it: nothing is wrong or undone.
            warnings.filterwarnings("ignore", message=RENEWED, category=UserWarning)
            return _run(argv)
    finally:
        warnings.formatwarning = written


RENEWED = "A worker stopped while some jobs were given"
"""How the warning of renewed workers begins."""


def _run(argv: list[str] | None) -> int:
    try:
        code = command_line()(args=_one_each(sys.argv[1:] if argv is None else argv), standalone_mode=False)
    except UnplateauError as error:
        return _refuse(str(error))
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except typer.TyperException as error:
        said = error.format_message().rstrip(".")
        # Nothing is said where the help was shown, for want of any argument.
        return _refuse(f"{said}. Add --help to see what there is.") if said else 2
    except MemoryError:
        return _refuse("The images or the model must fit in memory, and did not: lower `size` or `limit`.")
    except OSError as error:
        named = f" on {error.filename!r}" if error.filename else ""
        return _refuse(f"The system must let files be read and written; it said{named}: {why(error)}. {AGAIN}")
    # Typer hands Ctrl-C back as the exit code that a shell would give it.
    return _stop(ends=argv is None) if code == INTERRUPTED else 0


def _one_each(argv: list[str]) -> list[str]:
    """The arguments with "--recipes a b" as "--recipes a --recipes b", which is what the parser can read."""
    spread: list[str] = []
    listing = ""
    for each in argv:
        if each.startswith("-"):
            listing = each if each in LISTED else ""
        elif listing and spread[-1] != listing:
            spread.append(listing)
        spread.append(each)
    return spread


def _stop(*, ends: bool) -> int:
    """Say that the user stopped it; `ends` when the process is about to end, however often Ctrl-C is pressed."""
    if ends:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return _refuse(f"Stopped. {AGAIN}")


def _said_plainly(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning as it is shown: a doubt of ours without the line of code that had it, which tells a user nothing."""
    if issubclass(category, Doubt):
        return f"{message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


def _refuse(sentence: str) -> int:
    sys.stderr.write(f"{sentence}\n")
    return 2
