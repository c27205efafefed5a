"""On which tokens an edit acts: `where`, interpreted here and nowhere else."""

from typing import Any, Literal, get_args

from sonde.errors import EditError, nearest

Where = Literal["all", "prompt", "answer"]
WHERES: tuple[Where, ...] = get_args(Where)


def where_of(edit: Any) -> Where:
    """The tokens that an edit is limited to, "all" where it does not say; raises EditError for any other word."""
    where: Any = getattr(edit, "where", "all")
    if where not in WHERES:
        raise EditError(
            f"an edit's where is {where!r}, but must be one of {', '.join(WHERES)}{nearest(str(where), WHERES)}"
        )
    return where


def acts_on(edit: Any, positions: range, n_prompt: int | None) -> range:
    """The positions of a forward pass on which an edit acts; empty where it leaves them all alone.

    Args:
        positions: of the tokens of the pass, counted from the first token of the sequence.
        n_prompt: number of tokens of the prompt, padding included; None outside of generation, where all is prompt.
    """
    where = where_of(edit)
    if where == "all":
        return positions
    n = positions.stop if n_prompt is None else min(max(n_prompt, positions.start), positions.stop)
    return range(positions.start, n) if where == "prompt" else range(n, positions.stop)
