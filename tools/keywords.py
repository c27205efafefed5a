"""Write the keywords of each verb, which editors complete, from the verb's settings.

    python tools/keywords.py            # after a change of a settings class
    python tools/keywords.py --check    # exit with 1 where a file is not as it would be written

For each class of settings below, a TypedDict with the same fields stands at the end of its module. Counts and sizes may
be given as numbers or as text (34M, 2GB), folders as text or paths, lists as any sequence and, of text, as a single
one.
"""

import dataclasses
import importlib
import re
import subprocess
import sys
import typing
from pathlib import Path

SETTINGS = {
    "sonde.activations.settings": {"HarvestSettings": ("site",), "LiveSettings": ()},
    "sonde.training.settings": {"TrainSettings": ()},
    "sonde.features.settings": {"IndexSettings": ()},
    "sonde.steering.settings": {"AnswerSettings": (), "GenerateSettings": ()},
    "sonde.circuits.trace_settings": {"TraceSettings": ()},
    "sonde.labels.settings": {"LabelSettings": ()},
}
"""module -> its classes, and of each the fields that the verb names itself"""


def source(module: str) -> str:
    """The module's text with its TypedDicts written anew."""
    loaded = importlib.import_module(module)
    text = Path(str(loaded.__file__)).read_text(encoding="utf-8")
    text = re.split(r"\n\n\nclass \w+Keywords\(TypedDict", text)[0].rstrip() + "\n"
    for name, left_out in SETTINGS[module].items():
        text += "\n\n" + typed_dict(getattr(loaded, name), left_out)
    return text


def typed_dict(cls: type, left_out: tuple[str, ...]) -> str:
    hints = typing.get_type_hints(cls)
    name = cls.__name__.removesuffix("Settings") + "Keywords"
    lines = [f"class {name}(TypedDict, total=False):"]
    lines.append(f'    """The fields of `{cls.__name__}` as keywords; written by tools/keywords.py."""\n')
    for field in dataclasses.fields(cls):
        if field.name in left_out:
            continue
        written = annotation(hints[field.name])
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        lines.append(f"    {field.name}: {f'Required[{written}]' if required else written}")
    return "\n".join(lines) + "\n"


def annotation(hint: typing.Any) -> str:
    """What may be given for a field of this type, as it is written."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(repr, arguments)).replace(chr(39), chr(34))}]"
    if origin is tuple:
        inside = annotation(arguments[0])
        return f"{inside} | Sequence[{inside}]" if arguments[0] is str else f"Sequence[{inside}]"
    if arguments:
        parts = [part for argument in arguments for part in annotation(argument).split(" | ")]
        return " | ".join(dict.fromkeys(parts))
    names = {"Count": "int | str", "Bytes": "int | str", "Path": "str | Path", "RemotePath": "RemotePath"}
    return "None" if hint is type(None) else names.get(hint.__name__, hint.__name__)


def main() -> None:
    stale = []
    for module in SETTINGS:
        path = Path(str(importlib.import_module(module).__file__))
        formatter = [sys.executable, "-m", "ruff", "format", "--quiet", "--stdin-filename", str(path), "-"]
        text = subprocess.run(formatter, input=source(module), capture_output=True, text=True, check=True).stdout
        if text != path.read_text(encoding="utf-8"):
            stale.append(str(path))
            if "--check" not in sys.argv:
                path.write_text(text, encoding="utf-8")
    print(*(stale or ["all as they should be"]), sep="\n")
    sys.exit(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    main()
