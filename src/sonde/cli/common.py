"""What several verbs share: how a model is asked for, and how results are printed."""

import json as json_module
import sys
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter

from sonde.display import table
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


def load_recorded(recorded: Any, given: str | None, of: str, options: ModelOptions) -> Any:
    """The model that an artifact was made with, or the one that --model names in its place."""
    if given is not None:
        return load_model(given, options)  # the verb's function says where it is another one
    quiet_libraries()
    from sonde.models.recorded import recorded_model

    return recorded_model(recorded, of=of, device=options.device, dtype=options.dtype)


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
    json_module.dump(value, sys.stdout, ensure_ascii=False, indent=2)
    print()


def quality_table(found: Any) -> str:
    """A measurement as people read it, each number with a word of what it says."""
    rows = [
        ["FVU", f"{found.fvu:.4f}", "share of variance left unexplained"],
        ["FVU, uncentred", f"{found.fvu_uncentred:.4f}", "share of mean squared length left unexplained"],
        ["gamma", f"{found.gamma:.4f}", "1 where reconstructions are not shortened"],
        ["cosine", f"{found.cosine:.4f}", "of tokens and their reconstructions, mean"],
        ["L0", f"{found.l0:.1f}", "features active on a token"],
        ["dead", f"{found.dead:.2%}", "features that fire on none of these tokens"],
        ["tokens", f"{found.tokens:,}", f"in {found.documents:,} documents"],
    ]
    if found.fvu_by_site:
        rows[1:1] = [[f"  {site}", f"{fvu:.4f}", ""] for site, fvu in found.fvu_by_site.items()]
    if found.loss is None:
        rows.append(["loss", "-", "not measured: the model predicts no next token"])
    for name, value in found.loss_recovered.items():
        if value is not None:
            rows.append([f"loss recovered ({name})", f"{value:.4f}", f"against {name} ablation"])
    if found.kl is not None:
        rows.append(
            ["KL", f"{found.kl:.4f}", "nats a token, from the model's predictions with the reconstruction in place"]
        )
    return table(rows, right=(1,))
