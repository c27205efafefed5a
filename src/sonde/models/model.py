"""A model as published, with reading, editing and generating.

Everything is done with plain forward hooks that live as long as the call or the `with` block that set them.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sonde.errors import ModelLacksError, SiteError
from sonde.models.sites import Site, find_site, site_names

Where = Literal["all", "prompt", "answer"]


class Edit(Protocol):
    """Anything that changes what passes a site: it is called with x and returns what x becomes.

    An optional attribute `where` ("all", "prompt" or "answer") limits it to some tokens.
    """

    @property
    def site(self) -> str: ...

    def __call__(self, x: Tensor) -> Tensor: ...


class _Stop(BaseException):
    """Ends a forward pass once the last wanted site has been read; never leaves this module."""


@dataclass
class _Generation:
    """Where a running generation stands, so that edits can tell prompt from answer."""

    prompt_length: int
    offset: int = 0
    """position of the first token of the current forward pass"""


@dataclass(frozen=True)
class Tokens:
    """A batch of token ids [batch, position], padded on one side, and where they are real."""

    ids: Tensor
    mask: Tensor


@dataclass
class Model:
    """A transformers model and its tokenizer. Made by `sonde.load_model`."""

    network: nn.Module
    tokenizer: Any
    name: str
    """folder or hub name that it was loaded from"""
    identity: str = ""
    """content id of the model folder, or the hub revision; "" if unknown"""
    _edits: dict[str, list[Edit]] = field(default_factory=dict, repr=False)
    _edit_hooks: dict[str, list[RemovableHandle]] = field(default_factory=dict, repr=False)
    _generation: _Generation | None = field(default=None, repr=False)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.network.parameters()).dtype

    @property
    def context_length(self) -> int:
        """The longest input that the model was made for, in tokens."""
        config = self.network.config.get_text_config()  # type: ignore[union-attr, operator]
        for name in ("max_position_embeddings", "n_positions", "n_ctx"):
            if isinstance(getattr(config, name, None), int):
                return getattr(config, name)
        return 2048

    @property
    def is_causal(self) -> bool:
        """Whether the model predicts the next token."""
        return bool(self.network.can_generate())  # type: ignore[operator]

    @property
    def has_head(self) -> bool:
        return self.network.get_output_embeddings() is not None  # type: ignore[operator]

    def sites(self) -> list[str]:
        """All named sites, in the order of the forward pass."""
        return site_names(self.network)

    def site(self, name: str) -> Site:
        """Find a site; raises SiteError with the nearest name."""
        return find_site(self.network, name)

    # ---------------------------------------------------------------- text

    def need_tokenizer(self) -> Any:
        if self.tokenizer is None:
            raise ModelLacksError(
                f"{self.name} has no tokenizer, which reading text needs; add tokenizer.json to the folder"
            )
        return self.tokenizer

    def need_head(self, purpose: str) -> None:
        """Raise ModelLacksError unless the model predicts next tokens."""
        if not (self.is_causal and self.has_head):
            raise ModelLacksError(f"{self.name} has no causal language-model head, which {purpose} needs")

    def tokenize(self, texts: str | Sequence[str], side: Literal["left", "right"] = "right") -> Tokens:
        """Turn texts into a padded batch on the model's device, special tokens included."""
        tokenizer = self.need_tokenizer()
        rows = tokenizer([texts] if isinstance(texts, str) else list(texts))["input_ids"]
        return self.pad(rows, side)

    def pad(self, rows: Sequence[Sequence[int]], side: Literal["left", "right"] = "right") -> Tokens:
        """Pad rows of token ids into one batch on the model's device."""
        width = max(1, max(len(row) for row in rows))
        pad = getattr(self.tokenizer, "pad_token_id", None) or 0
        ids = torch.full((len(rows), width), pad)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for number, row in enumerate(rows):
            where = slice(width - len(row), width) if side == "left" else slice(0, len(row))
            ids[number, where] = torch.tensor(row, dtype=torch.long)
            mask[number, where] = 1
        return Tokens(ids.to(self.device), mask.to(self.device))

    def chat_ids(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Token ids of a conversation up to where the assistant answers, by the model's chat template.

        Raises ModelLacksError where the model has no template.
        """
        tokenizer = self.need_tokenizer()
        if tokenizer.chat_template is None:
            raise ModelLacksError(
                f"{self.name} has no chat template, so it cannot hold a conversation; generate from plain text instead"
            )
        text = tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True)
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    # ---------------------------------------------------------------- reading

    @torch.no_grad()
    def read(self, tokens: str | Sequence[str] | Tokens, sites: str | Iterable[str]) -> dict[str, Tensor]:
        """Read sites in one forward pass that stops after the last one needed.

        Args:
            tokens: a text, several texts, or a padded batch.
            sites: one or more names.

        Returns:
            site -> [batch, position, width] ([batch, position, head, width] for heads), after any edits of
            an enclosing `edited` block.

        Raises SiteError where a site does not exist or was not reached.
        """
        batch = tokens if isinstance(tokens, Tokens) else self.tokenize(tokens)
        found = [self.site(name) for name in ([sites] if isinstance(sites, str) else dict.fromkeys(sites))]
        values: dict[str, Tensor] = {}

        def keep(site: Site, x: Tensor) -> None:
            values[site.name] = _split(x, site)
            if len(values) == len(found):
                raise _Stop

        with contextlib.ExitStack() as stack:
            for site in found:
                stack.enter_context(_reading(site, keep))
            with contextlib.suppress(_Stop):
                # The head costs a third of a small model; a module named by path may lie in it.
                self.forward(batch, head=any(site.name.startswith(("logits", "module:")) for site in found))
        missing = [site.name for site in found if site.name not in values]
        if missing:
            raise SiteError(f"site {missing[0]!r} was not reached in the forward pass of this model")
        return {site.name: values[site.name] for site in found}

    @torch.no_grad()
    def logits(self, tokens: str | Sequence[str] | Tokens) -> Tensor:
        """The head's logits [batch, position, vocabulary] of a whole forward pass."""
        if not self.has_head:
            raise ModelLacksError(f"{self.name} has no language-model head, so it has no logits")
        return self.forward(tokens if isinstance(tokens, Tokens) else self.tokenize(tokens)).logits

    def forward(self, batch: Tokens, head: bool = True) -> Any:
        """Run the network, or with `head=False` the trunk alone, over a padded batch."""
        network = self.network if head else self.network.base_model
        keywords: dict[str, Any] = {"use_cache": False} if self.is_causal else {}
        return network(input_ids=batch.ids, attention_mask=batch.mask, **keywords)  # type: ignore[operator]

    @torch.no_grad()
    def unembed(self, direction: Tensor) -> Tensor:
        """What a direction in the stream says to each token, by the direct path [..., vocabulary].

        The direct path is the last norm, linearised at the direction itself, and the head without its bias.
        """
        self.need_head("the direct path to the logits")
        with contextlib.suppress(SiteError):
            direction = self.site("final").module(direction) - self.site("final").module(torch.zeros_like(direction))
        head = self.network.get_output_embeddings()  # type: ignore[operator]
        return direction @ head.weight.T  # type: ignore[union-attr]

    # ---------------------------------------------------------------- editing

    @contextlib.contextmanager
    def edited(self, *edits: Edit) -> Iterator["Model"]:
        """Apply edits to whatever runs inside the block; nothing is left behind, also after an exception.

        Edits at one site, of this and of enclosing blocks, all read the same unedited x, and their changes
        are added. Edits at several sites act in the order of the forward pass.
        """
        placed: list[tuple[str, Edit]] = []
        try:
            for edit in edits:
                site = self.site(edit.site)
                if site.name not in self._edit_hooks:
                    self._edits[site.name] = []
                    self._edit_hooks[site.name] = self._install(site)
                self._edits[site.name].append(edit)
                placed.append((site.name, edit))
            yield self
        finally:
            for name, edit in reversed(placed):
                remaining = self._edits[name]
                remaining.pop(max(i for i, other in enumerate(remaining) if other is edit))
                if not remaining:
                    for handle in self._edit_hooks.pop(name):
                        handle.remove()
                    del self._edits[name]

    def _install(self, site: Site) -> list[RemovableHandle]:
        edits = self._edits[site.name]

        def change(x: Tensor) -> Tensor:
            shaped = _split(x, site)
            changed = self._apply(edits, shaped)
            return x if changed is shaped else changed.reshape(x.shape)

        if site.side == "output":
            return [site.module.register_forward_hook(lambda _, __, output: _with_first(output, change))]

        def before(_: nn.Module, arguments: tuple, keywords: dict) -> tuple[tuple, dict]:
            x, put_back = _input(arguments, keywords)
            changed = change(x)
            if site.in_place and changed is not x:
                # The block keeps this very tensor for its skip connection: write where it is kept.
                return put_back(x.copy_(changed))
            return put_back(changed)

        return [site.module.register_forward_pre_hook(before, with_kwargs=True)]

    def _apply(self, edits: list[Edit], x: Tensor) -> Tensor:
        """Sum of the changes that each edit makes to the same x, each on its own tokens."""
        result = x
        for edit in edits:
            changed = edit(x)
            mask = self._mask(getattr(edit, "where", "all"), x)
            if mask is not None:
                changed = torch.where(mask, changed, x)
            # The first edit's result is taken as it is, so that putting back what was read is bit-exact.
            result = changed if result is x else result + (changed - x)
        return result

    def _mask(self, where: Where, x: Tensor) -> Tensor | None:
        """Which positions an edit acts on; outside of generation everything is prompt."""
        if where == "all":
            return None
        positions = torch.arange(x.shape[1], device=x.device)
        state = self._generation
        answer = positions + state.offset >= state.prompt_length if state else positions < 0
        mask = answer if where == "answer" else ~answer
        return mask.view(1, -1, *(1,) * (x.ndim - 2))

    # ---------------------------------------------------------------- generating

    @torch.no_grad()
    def generate(self, prompt: str | Tokens, max_new_tokens: int = 60, **options: Any) -> str:
        """Continue a prompt, under the edits of an enclosing block, and return the new text alone.

        Further options go to transformers' `generate`; decoding is greedy unless they say otherwise.
        """
        tokenizer = self.need_tokenizer()
        batch = prompt if isinstance(prompt, Tokens) else self.tokenize(prompt, side="left")
        ids = self.generate_ids(batch, max_new_tokens, **options)
        return tokenizer.decode(ids[0, batch.ids.shape[1] :], skip_special_tokens=True).strip()

    @torch.no_grad()
    def generate_ids(self, batch: Tokens, max_new_tokens: int, **options: Any) -> Tensor:
        """Continue a left-padded batch; returns prompt and answer ids [batch, position].

        Raises ModelLacksError where the model cannot generate.
        """
        self.need_head("generating")
        options = {"do_sample": False, "pad_token_id": getattr(self.tokenizer, "pad_token_id", None) or 0} | options
        self._generation = _Generation(prompt_length=batch.ids.shape[1])
        follow = self.network.register_forward_pre_hook(self._follow, with_kwargs=True)
        try:
            return self.network.generate(  # type: ignore[operator]
                input_ids=batch.ids, attention_mask=batch.mask, max_new_tokens=max_new_tokens, **options
            )
        finally:
            follow.remove()
            self._generation = None

    def _follow(self, _: nn.Module, __: tuple, keywords: dict) -> None:
        """Before each forward pass of a generation: note where its first token stands."""
        assert self._generation is not None
        cache = keywords.get("past_key_values")
        self._generation.offset = int(cache.get_seq_length()) if cache is not None else 0


@contextlib.contextmanager
def _reading(site: Site, keep: Any) -> Iterator[None]:
    """Hook one site so that `keep(site, x)` is called with what passes it."""
    if site.side == "output":

        def after(_: nn.Module, __: tuple, output: Any) -> None:
            keep(site, output if isinstance(output, Tensor) else output[0])

        handle = site.module.register_forward_hook(after)
    else:

        def before(_: nn.Module, arguments: tuple, keywords: dict) -> None:
            keep(site, _input(arguments, keywords)[0])

        handle = site.module.register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _split(x: Tensor, site: Site) -> Tensor:
    return x if site.n_heads is None else x.unflatten(-1, (site.n_heads, -1))


def _with_first(output: Any, change: Any) -> Any:
    """Change a module's output, or the first part of it where the module returns several."""
    if isinstance(output, Tensor):
        return change(output)
    return (change(output[0]), *output[1:])


def _input(arguments: tuple, keywords: dict) -> tuple[Tensor, Any]:
    """A module's main input, and how to put another in its place."""
    if arguments:
        return arguments[0], lambda x: ((x, *arguments[1:]), keywords)
    name = "hidden_states" if "hidden_states" in keywords else next(iter(keywords))
    return keywords[name], lambda x: (arguments, keywords | {name: x})
