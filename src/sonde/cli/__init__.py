"""The command line: a table of verbs, and how errors reach people.

Verbs are registered by name, so that `sonde --help` imports none of them, nor torch. Everything that goes
wrong on purpose is one line on stderr and exit code 2; Ctrl-C is one line and 130; a traceback is printed
only with --debug.
"""

import dataclasses
import io
import os
import re
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cyclopts

import sonde
from sonde.errors import CapacityError, SondeError, UsageError, nearest
from sonde.settings import Count, format_count, read_settings

VERBS = {  # group: {verb: (function, what it does)}, both in the order of a person's work
    "Begin": {
        "demo": ("demo:demo", "Turn a real model into the Golden Gate Bridge, and open the page."),
        "world": (
            "world:app",
            "Write text of the built-in world, question its model, examine it, benchmark dictionaries.",
        ),
    },
    "Make": {
        "sites": ("sites:sites", "List the places of a model that can be read and edited."),
        "generate": ("generate:generate", "Let a model write text, to harvest or to index."),
        "harvest": ("harvest:harvest", "Run a model over text once and keep the activations at some sites."),
        "import": ("importing:import_vectors", "Make activations of vectors that were harvested elsewhere."),
        "train": ("train:train", "Train a dictionary of features on harvested activations."),
        "index": ("index:index", "Find where every feature fires in a text."),
    },
    "Look": {
        "open": ("open:open_index", "Open an index in the browser."),
        "search": ("search:search", "Find features by words in their labels and examples."),
        "read": ("read:read", "Show which features fire on a text."),
        "feature": ("feature:feature", "Show a feature and its strongest examples."),
        "map": ("map:feature_map", "Lay features out in a plane, in clusters with names."),
        "neurons": ("neurons:neurons", "Correlate features with neurons."),
        "splitting": ("splitting:splitting", "Show how a larger dictionary splits a smaller one's features."),
        "show": ("show:show", "Show what an artifact holds."),
    },
    "Turn": {
        "chat": ("chat:chat", "Talk to the model under edits of its features."),
        "effects": ("effects:effects", "Find the features that turn the model towards some texts."),
        "dose": ("dose:dose", "Show how the model's answer changes as an edit grows."),
        "preset": ("preset:preset", "Keep edits under a name."),
    },
    "Explain": {
        "attribute": ("attribute:attribute", "Show which features made an answer."),
        "patch": ("patch:patch", "Show which places of a model bring an answer with them."),
        "heads": ("heads:heads", "Score what attention heads do."),
        "label": ("label:label", "Label features, and score the labels."),
        "replacement": ("replacement:replacement", "Measure a replacement of a model's MLPs by transcoders."),
        "trace": ("trace:trace", "Trace an answer back to the features and tokens that it comes from."),
    },
    "Judge": {
        "measure": ("measure:measure", "Measure a dictionary on held-out documents."),
        "concepts": ("concepts:concepts", "Show which labelled concepts a single feature detects."),
        "completeness": ("completeness:completeness", "Show which of some concepts have a feature."),
    },
    "Share": {
        "serve": ("serve:serve", "Serve a model with edits to any client of OpenAI's API."),
    },
}


def make_app(verbs_say: bool) -> cyclopts.App:
    """Make the parser.

    Args:
        verbs_say: take each verb's help from its own module, which imports it; for the list of all verbs the
            table above is enough.
    """
    app = cyclopts.App(
        name="sonde",
        help="Reads what a language model is thinking: features, where they fire, and what turning them does.\n\n"
        "Example: sonde demo",
        version=sonde.__version__,
        default_parameter=cyclopts.Parameter(negative=()),
        result_action="return_value",
        suppress_keyboard_interrupt=False,
        help_epilogue="sonde VERB --help says more. Any verb takes --settings FILE (.toml or .json, in which "
        "n_features = 1024 stands for --n-features 1024; flags that are typed win) and --debug (to print tracebacks).",
    )
    for place, (title, members) in enumerate(VERBS.items()):
        group = cyclopts.Group(title, sort_key=place)
        for number, (verb, (target, summary)) in enumerate(members.items()):
            help = None if verbs_say else summary
            app.command(f"sonde.cli.{target}", name=verb, group=group, sort_key=number, help=help)
    app["--help"].group = app["--version"].group = cyclopts.Group("Help", sort_key=len(VERBS))
    return app


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run the command line; returns the exit code."""
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # see docs/cli.md; read by torch's OpenMP as it is loaded
    _take_any_character()
    try:
        _refuse_unknown_verb(arguments)
        app = make_app(verbs_say=bool(arguments) and arguments[0] in verbs())
        command, bound, _ = app.parse_args(take_settings(arguments), exit_on_error=False, print_error=False)
        _echo_counts(bound.arguments)
        command(*bound.args, **bound.kwargs)
    except KeyboardInterrupt:
        return _fail(130, "interrupted; run the same command again to go on where it can", debug)
    except SondeError as error:
        return _fail(2, str(error), debug)
    except cyclopts.CycloptsError as error:
        return _fail(2, _usage_message(error), debug)
    except BrokenPipeError:  # whoever read our output has gone, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except MemoryError:
        return _fail(2, str(CapacityError("the machine's memory is used up; close something or ask for less")), debug)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except Exception as error:
        return _fail(
            1,
            f"a bug of ours: {type(error).__name__}: {error}; run it again with --debug and report what it prints",
            debug,
        )
    return 0


def _take_any_character() -> None:
    """Print what the terminal lacks as an escape, and read bytes that are no UTF-8 as halves of characters."""
    escape = "backslashreplace"
    for stream, errors in ((sys.stdout, escape), (sys.stderr, escape), (sys.stdin, "surrogateescape")):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors=errors)


def take_settings(arguments: list[str]) -> list[str]:
    """Replace `--settings FILE` by the flags that the file stands for; those that are typed win.

    Raises SettingsError where the file cannot be read.
    """
    if "--settings" not in arguments[:-1]:
        return arguments
    place = arguments.index("--settings")
    rest = arguments[:place] + arguments[place + 2 :]
    typed = {argument.partition("=")[0] for argument in rest}
    for name, value in read_settings(Path(arguments[place + 1])).items():
        flag = "--" + name.replace("_", "-")
        if flag not in typed and value is not False:
            values = value if isinstance(value, list) else [value]
            rest += [flag] if value is True else [part for each in values for part in (flag, str(each))]
    return rest


def _echo_counts(values: Mapping[str, Any]) -> None:
    """Print what counts and sizes with units (34M, 128Ki, 2GB) stand for, so that a slip is seen."""
    for name, value in values.items():
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            _echo_counts(vars(value))
        elif isinstance(value, Count) and not value.written.replace("_", "").isdigit():
            print(f"--{name.replace('_', '-')} {value.written} is {format_count(value)}", file=sys.stderr)


def verbs() -> list[str]:
    """The names of all verbs."""
    return [verb for verbs in VERBS.values() for verb in verbs]


def _refuse_unknown_verb(arguments: list[str]) -> None:
    """Name the nearest verb, without importing them all to find it."""
    verb = arguments[0] if arguments else "--help"
    if verb not in verbs() and not verb.startswith("-"):
        raise UsageError(f"there is no verb {verb!r}{nearest(verb, verbs()) or '; there are ' + ', '.join(verbs())}")


def _usage_message(error: cyclopts.CycloptsError) -> str:
    """The parser's message on one line, with the verb's help as the way out."""
    if isinstance(error, cyclopts.ValidationError) and error.__cause__ is not None:
        return str(error.__cause__)
    message = " ".join(str(error).split())
    return re.sub(r"\.$", "", message) + "; --help shows how"


def _fail(code: int, message: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    # One line, but for what is set off on purpose, as the modules of a model that sonde does not know.
    said, listed = re.match(r"(.*?)((?:\n  .*)*)$", message.strip(), re.DOTALL).groups()  # type: ignore[union-attr]
    print(f"sonde: {' '.join(said.split())}{listed}", file=sys.stderr)
    return code
