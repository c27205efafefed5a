"""What several verbs share: how a model is asked for, and how results are printed."""

import json as json_module
import sys
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter

from sonde.progress import Reporter, make_reporter


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Where and how the model runs."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:N, mps, or spread (over all devices; needs accelerate)"""
    dtype: str = "auto"
    """auto (float32 on a CPU, as stored elsewhere), float32, bfloat16 or float16"""


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Where the server listens, and where its model runs."""

    port: int = 8321
    """Port to listen on; 0 takes any that is free."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""


@dataclass(frozen=True, kw_only=True)
class PageOptions(ServerOptions):
    """How the page is opened."""

    browser: Annotated[bool, Parameter(negative="--no-browser")] = True
    """Open the page in the browser; --no-browser only prints its address."""


def load_model(name: str, options: ModelOptions) -> Any:
    """Load a model with transformers' own progress bars and warnings off: we have ours."""
    quiet_libraries()
    from sonde.models.load import load_model

    return load_model(name, device=options.device, dtype=options.dtype)


def quiet_libraries() -> None:
    import warnings

    import transformers

    warnings.simplefilter("ignore")
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def reporter() -> Reporter:
    return make_reporter()


def print_json(value: Any) -> None:
    """One object on stdout and nothing else."""
    is_utf8 = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
    json_module.dump(value, sys.stdout, ensure_ascii=not is_utf8, indent=2)
    print()
