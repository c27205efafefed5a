"""The command line: a table of verbs, and how errors reach people.

Verbs are registered by name, so that `sonde --help` imports none of them, nor torch. Everything that goes
wrong on purpose is one line on stderr and exit code 2; Ctrl-C is one line and 130; a traceback is printed
only with --debug.
"""

import os
import re
import sys
import traceback
from pathlib import Path

import cyclopts

import sonde
from sonde.errors import CapacityError, SondeError, UsageError, nearest
from sonde.settings import format_count, parse_bytes, parse_count, read_settings

VERBS = {  # verb: (function, what it does)
    "demo": ("sonde.cli.demo:demo", "Find features of the built-in model, turn one up, and open the page."),
    "sites": ("sonde.cli.sites:sites", "List the places of a model that can be read and edited."),
    "harvest": ("sonde.cli.harvest:harvest", "Run a model over text once and keep what passes a site."),
    "import": ("sonde.cli.importing:import_vectors", "Make activations of vectors that somebody else harvested."),
    "train": ("sonde.cli.train:train", "Train a dictionary of features on harvested activations."),
    "measure": ("sonde.cli.measure:measure", "Measure a dictionary on documents that it never saw."),
    "index": ("sonde.cli.index:index", "Find where every feature fires in a text."),
    "label": ("sonde.cli.label:label", "Say of each feature what it is, and test what was said."),
    "search": ("sonde.cli.search:search", "Find features by words in their examples."),
    "read": ("sonde.cli.read:read", "Show which features fire on a text."),
    "feature": ("sonde.cli.feature:feature", "Show a feature and its strongest examples."),
    "concepts": ("sonde.cli.concepts:concepts", "Show which labelled concepts a single feature tells."),
    "completeness": ("sonde.cli.completeness:completeness", "Show which of some concepts have a feature."),
    "neurons": ("sonde.cli.neurons:neurons", "Show how like neurons features are."),
    "splitting": ("sonde.cli.splitting:splitting", "Show how a larger dictionary divides a smaller one's features."),
    "map": ("sonde.cli.map:feature_map", "Lay features out in a plane, in clusters with names."),
    "chat": ("sonde.cli.chat:chat", "Talk to the model while features are turned."),
    "dose": ("sonde.cli.dose:dose", "Show what a model answers as features are turned further."),
    "serve": ("sonde.cli.serve:serve", "Serve a model whose features can be turned to any client of OpenAI's API."),
    "preset": ("sonde.cli.preset:preset", "Keep edits under a name."),
    "open": ("sonde.cli.open:open_index", "Open an index in the browser."),
    "show": ("sonde.cli.show:show", "Show what an artifact holds."),
    "world": (
        "sonde.cli.world:app",
        "Write text of the built-in world, ask its model, examine it, or hold dictionaries against the truth.",
    ),
}

COUNT_FLAGS = (
    "--tokens",
    "--n-features",
    "--k",
    "--batch-size",
    "--aux-k",
    "--dead-after",
    "--context",
    "--documents",
    "--pool",
    "--budget-tokens",
    "--sample",
)
BYTE_FLAGS = ("--memory",)


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
        help_epilogue="sonde VERB --help says more. Any verb takes --settings FILE (.toml or .json, in which n_features = "
        "1024 stands for --n-features 1024; flags that are typed win) and --debug (to print tracebacks).",
    )
    for verb, (target, summary) in VERBS.items():
        app.command(target, name=verb, help=None if verbs_say else summary)
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
    try:
        _refuse_unknown_verb(arguments)
        app = make_app(verbs_say=bool(arguments) and arguments[0] in VERBS)
        app(write_out_counts(take_settings(arguments)), exit_on_error=False, print_error=False)
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


def write_out_counts(arguments: list[str]) -> list[str]:
    """Replace counts and sizes with units (34M, 128Ki, 2GB) by plain numbers, and say what was meant.

    Raises SettingsError where one cannot be read.
    """
    written = list(arguments)
    for place, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag not in (*COUNT_FLAGS, *BYTE_FLAGS):
            continue
        if not equals:
            if place + 1 == len(arguments) or arguments[place + 1].startswith("--"):
                continue  # the value is missing, which the parser says better
            value = arguments[place + 1]
        count = parse_bytes(value) if flag in BYTE_FLAGS else parse_count(value)
        written[place if equals else place + 1] = f"{flag}={count}" if equals else str(count)
        if not value.replace("_", "").isdigit():
            print(f"{flag} {value} is {format_count(count)}", file=sys.stderr)
    return written


def _refuse_unknown_verb(arguments: list[str]) -> None:
    """Name the nearest verb, without importing them all to find it."""
    verb = arguments[0] if arguments else "--help"
    if verb not in VERBS and not verb.startswith("-"):
        raise UsageError(f"there is no verb {verb!r}{nearest(verb, VERBS) or '; there are ' + ', '.join(VERBS)}")


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
