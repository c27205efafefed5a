"""A model as published, with reading, editing and generating.

Everything is done with plain forward hooks that live as long as the call or the `with` block that set them.
"""

import contextlib
import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal, Protocol, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sonde.calls import public
from sonde.display import Block, Drawn, Grid, Line, shorten
from sonde.errors import ConversationError, EditError, ModelLacksError, SiteError, TextError
from sonde.facts import ModelRef
from sonde.models.families import family_of
from sonde.models.gradients import freeze, freeze_scale, norms_of, track
from sonde.models.hooks import attached
from sonde.models.pictures import Picture, PictureReader, stack
from sonde.models.sites import Site, find_site, has_head, site_names, trunk_of
from sonde.models.token_text import decode
from sonde.models.where import acts_on, where_of
from sonde.texts import require_unicode

Side = Literal["left", "right"]
_PROBED = 2, 5
"""texts and tokens that are read to see the shape of a site's values"""


class SiteEdit(Protocol):
    """Anything that changes what passes a site: it is called with x and returns what x becomes.

    Two optional attributes limit it: `where` ("all", "prompt" or "answer") to some tokens, and `rows`
    (numbers, from zero) to some rows of the batch, for which all beams and samples of a row count as that row.
    """

    @property
    def site(self) -> str: ...

    def __call__(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]: ...


@dataclass(frozen=True)
class _Note:
    """An edit that changes nothing and notes that it was asked."""

    site: str
    reached: set[str]

    def __call__(self, x: Tensor) -> Tensor:
        self.reached.add(self.site)
        return x.clone()


class _Stop(BaseException):
    """Ends a forward pass once the last wanted site has been read; never leaves this module."""


@dataclass
class _Generation:
    """Where a running generation stands, so that edits can tell prompt from answer and row from row."""

    n_rows: int
    prompt_length: int
    end: int = 0
    """position after the last token of the current forward pass"""


@dataclass(frozen=True)
class Tokens:
    """A batch of token ids [batch, position], and where they are real."""

    ids: Tensor
    mask: Tensor
    pixels: Tensor | None = None
    """the pictures [picture, channel, height, width], in the order in which they stand in the batch"""
    segments: Tensor | None = None
    """of packed rows [batch, position]: which text a token is of, from 1; 0 at padding"""


@dataclass
class Model(Drawn):
    """A transformers model and its tokenizer. Made by `sonde.load_model`."""

    network: nn.Module
    tokenizer: Any
    name: str
    """folder or hub name that it was loaded from"""
    identity: str = ""
    """content id of the model folder, or the hub revision; "" if unknown"""
    pictures: PictureReader | None = None
    """how it reads pictures; None where it reads text alone"""
    _edits: dict[str, list[SiteEdit]] = field(default_factory=dict, repr=False)
    _edit_hooks: dict[str, contextlib.ExitStack] = field(default_factory=dict, repr=False)
    _with_gradients: bool = field(default=False, repr=False)
    _generation: _Generation | None = field(default=None, repr=False)

    @property
    def ref(self) -> ModelRef:
        """Its name and content id, as manifests keep them."""
        return ModelRef(self.name, self.identity)

    def __repr__(self) -> str:
        name = shorten(self.ref.short_name, 60)
        return f"Model({name}: {self._architecture}, {self._runs_on})"

    def draw(self) -> list[Block]:
        """What it is, and the sites before, in and after its first layer."""
        sites = self.sites()
        first = [site for site in sites if not site.startswith("layers.") or site.startswith("layers.0.")]
        rows = [
            ["architecture", self._architecture],
            ["parameters", f"{sum(weight.numel() for weight in self.network.parameters()):,}"],
            ["vocabulary", f"{self.vocab_size:,} tokens"],
            ["context", f"{self.context_length:,} tokens"],
            ["runs on", self._runs_on],
            ["reads", "text and pictures" if self.pictures else "text"],
            ["sites", f"{len(sites)}, of which {', '.join(first)}" if sites else "modules, such as module:model.norm"],
        ]
        return [Line(f"model {self.name}", strong=True), Grid(rows)]

    @property
    def _architecture(self) -> str:
        config = self._text_config
        layers, width = (getattr(config, name, "?") for name in ("num_hidden_layers", "hidden_size"))
        return f"{self.network.config.model_type}, {layers} layers, {width} wide"  # type: ignore[union-attr]

    @property
    def _runs_on(self) -> str:
        return f"{self.device} {str(self.dtype).removeprefix('torch.')}"

    @property
    def device(self) -> torch.device:
        """Where inputs go: the device of the first weights, also where a model lies on several."""
        placed = (weight.device for weight in self.network.parameters() if weight.device.type != "meta")
        return next(placed, torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The number format of what passes through the model, also where its weights are quantised."""
        return next(weight.dtype for weight in self.network.parameters() if weight.is_floating_point())

    @property
    def context_length(self) -> int:
        """The longest input that the model was made for, in tokens."""
        for name in ("max_position_embeddings", "n_positions", "n_ctx"):
            if isinstance(getattr(self._text_config, name, None), int):
                return getattr(self._text_config, name)
        return 2048

    @property
    def is_causal(self) -> bool:
        """Whether the model predicts the next token."""
        return bool(self.network.can_generate())  # type: ignore[operator]

    @property
    def has_head(self) -> bool:
        return has_head(self.network)

    @property
    def vocab_size(self) -> int:
        """Token ids that the model has embeddings for, counted from zero."""
        embeddings = self.network.get_input_embeddings()  # type: ignore[operator]
        return getattr(embeddings, "num_embeddings", None) or self._text_config.vocab_size

    def require_known(self, ids: Sequence[int]) -> None:
        """Raise TextError for token ids that the model has no embedding for."""
        if len(ids) and not 0 <= min(ids) <= max(ids) < self.vocab_size:
            wrong = next(token for token in ids if not 0 <= token < self.vocab_size)
            raise TextError(
                f"there is no token {wrong:,} in {self.name}, which knows {self.vocab_size:,}; the tokens are another "
                "model's, or were added to the tokenizer and not to the model"
            )

    @property
    def _text_config(self) -> Any:
        return self.network.config.get_text_config()  # type: ignore[union-attr, operator]

    def sites(self) -> list[str]:
        """All named sites, in the order of the forward pass; none where the model's family is not known."""
        return site_names(self.network)

    def site(self, name: str) -> Site:
        """Find a site; raises SiteError with the nearest name."""
        return find_site(self.network, name)

    def widths(self, sites: Iterable[str]) -> dict[str, int]:
        """Site -> width of the vector that it has of each token, heads side by side.

        Raises SiteError for a site that does not exist, or has no vector of each token.
        """
        probe = self.read(self.pad([[0] * _PROBED[1]] * _PROBED[0]), sites := list(sites))
        for name, value in probe.items():
            if value.ndim < 3 or tuple(value.shape[:2]) != _PROBED or self.site(name).position_axis != 1:
                raise SiteError(
                    f"site {name!r} has no vector of each token: of {_PROBED[0]} texts of {_PROBED[1]} tokens its "
                    f"shape is {list(value.shape)}; choose another, such as {self._example_site()}"
                )
        return {name: probe[name].flatten(2).shape[-1] for name in sites}

    def _example_site(self) -> str:
        residual = [name for name in self.sites() if name.endswith(".residual")]
        return residual[len(residual) // 2] if residual else "a layer's output"

    def describe_sites(self) -> list[dict[str, Any]]:
        """Each named site: `site`, `shape` of a token's value, `dtype`, `editable`, and `place`, the module it is at.

        A pattern's shape is (heads, None, None), for query and key positions.

        Found out by one forward pass of two tokens, in which an edit that changes nothing acts at each site.

        Raises SiteError where the model's family is not known.
        """
        names = self.sites()
        if not names:
            self.site("layers.0.residual")  # says why there are none, and what to do
        paths = {module: path for path, module in self.network.named_modules()}
        reached: set[str] = set()
        with self.edited(*(_Note(name, reached) for name in names)):
            values = self.read(self.pad([[0, 0]]), names)
        rows = []
        for name in names:
            site = self.site(name)
            shape = tuple(values[name].shape[2:]) if site.position_axis == 1 else (values[name].shape[1], None, None)
            rows.append(
                {
                    "site": name,
                    "shape": shape,
                    "dtype": str(values[name].dtype).removeprefix("torch."),
                    "editable": name in reached,
                    "place": f"{site.place.side} of {paths[site.module] or 'the model'}",
                }
            )
        return rows

    # ---------------------------------------------------------------- text and pictures

    def require_tokenizer(self) -> Any:
        if self.tokenizer is None:
            raise ModelLacksError(
                f"{self.name} has no tokenizer, which reading text needs; add tokenizer.json to the folder"
            )
        return self.tokenizer

    def require_pictures(self) -> PictureReader:
        if self.pictures is None:
            config: Any = self.network.config
            raise ModelLacksError(
                f"{self.name} has no processor, which pictures need; add its processor_config.json to the folder"
                if self._text_config is not config
                else f"{self.name} reads no pictures: it is a {config.model_type} model, of text alone"
            )
        return self.pictures

    def require_head(self, purpose: str) -> None:
        """Raise ModelLacksError unless the model predicts next tokens."""
        if not (self.is_causal and self.has_head):
            raise ModelLacksError(f"{self.name} has no causal language-model head, which {purpose} needs")

    def why_no_chat(self) -> str | None:
        """What the model lacks for a conversation, or None where there can be one."""
        try:
            self.require_head("chat")
            self.chat_tokens([{"role": "user", "content": "x"}])
        except (ModelLacksError, ConversationError) as error:
            return str(error)
        return None

    def tokenize(
        self,
        texts: str | Sequence[str],
        side: Side = "right",
        images: Sequence[Any] | None = None,
        special: bool = True,
    ) -> Tokens:
        """Turn texts into a padded batch on the model's device.

        Args:
            side: where padding goes; left for generating.
            images: of one text, its pictures (paths, bytes or PIL images), one for each mark in it; of several
                texts, a list for each.
            special: add the special tokens that the tokenizer puts around a text.

        Raises:
            PictureError: a picture that cannot be read, or not one for each mark.
            TextError: a text that is no Unicode, or a token that the model does not have.
            ModelLacksError: no tokenizer, or pictures for a model that reads none.
        """
        tokenizer = self.require_tokenizer()
        texts, images = ([texts], [images or ()]) if isinstance(texts, str) else (list(texts), images)
        for number, text in enumerate(texts):
            require_unicode(text, f"text {number}" if len(texts) > 1 else "the text")
        sets = [[self.require_pictures().read(image) for image in row] for row in images or [()] * len(texts)]
        if self.pictures is not None:
            pairs = zip(texts, sets, strict=True)
            texts = [
                self.pictures.expand(text, own, f"text {n}" if len(texts) > 1 else "the text").text
                for n, (text, own) in enumerate(pairs)
            ]
        ids = tokenizer(texts, add_special_tokens=special)["input_ids"]
        return self.pad(ids, side, [picture for row in sets for picture in row])

    def pad(self, rows: Sequence[Sequence[int]], side: Side = "right", pictures: Sequence[Picture] = ()) -> Tokens:
        """Pad rows of token ids into one batch on the model's device; pictures in the order of their patches.

        Raises TextError for a token that the model does not have.
        """
        for row in rows:
            self.require_known(row)
        width = max(1, max(len(row) for row in rows))
        ids = torch.full((len(rows), width), self._padding)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for number, row in enumerate(rows):
            where = slice(width - len(row), width) if side == "left" else slice(0, len(row))
            ids[number, where] = torch.tensor(row, dtype=torch.long)
            mask[number, where] = 1
        return Tokens(ids.to(self.device), mask.to(self.device), stack(pictures, self.dtype, self.device))

    def pack(self, rows: Sequence[Sequence[int]], length: int | None = None) -> Tokens:
        """Lay several texts side by side in rows of `length` tokens, in their order, each blind to the others.

        Each text is read as if it were alone: it begins at position 0 and attends to itself. Text i is where
        `segments == i + 1`.

        Raises:
            TextError: a text that is longer than a row, or than the model's context or sliding window.
        """
        length = length or self.context_length
        longest = max(len(row) for row in rows)
        window = getattr(self._text_config, "sliding_window", None) or longest
        limits = {"rows have": length, "the model's context holds": self.context_length}
        limits["the model's sliding window holds"] = window
        what, least = min(limits.items(), key=lambda limit: limit[1])
        if longest > least:
            raise TextError(f"a text of {longest:,} tokens cannot be packed: {what} {least:,}; cut it first")
        packed: list[list[int]] = [[]]
        numbers: list[list[int]] = [[]]
        for number, row in enumerate(rows, start=1):
            if len(packed[-1]) + len(row) > length:
                packed.append([])
                numbers.append([])
            packed[-1] += row
            numbers[-1] += [number] * len(row)
        tokens = self.pad(packed)
        segments = [own + [0] * (tokens.ids.shape[1] - len(own)) for own in numbers]
        return Tokens(tokens.ids, tokens.mask, segments=torch.tensor(segments, device=self.device))

    def chat_tokens(self, messages: Sequence[dict[str, Any]]) -> Tokens:
        """A conversation up to where the assistant answers, by the model's chat template, as a batch of one.

        A message has a role, a content, and may have `images`, one for each mark in its content.

        Raises:
            ModelLacksError: the model has no template.
            ConversationError: the template refuses the conversation, or is broken.
        """
        tokenizer = self.require_tokenizer()
        if tokenizer.chat_template is None:
            raise ModelLacksError(
                f"{self.name} has no chat template, so it cannot hold a conversation; generate from plain text instead"
            )
        mark = self.pictures.image_token if self.pictures else None
        plain = [_plain(number, message) for number, message in enumerate(messages, start=1)]
        if mark and _IN_PARTS.search(str(tokenizer.chat_template)):
            plain = [message | {"content": _in_parts(message["content"], mark)} for message in plain]
        try:
            text = tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # templates are programs, and raise what they like
            words = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ConversationError(f"the chat template of {self.name} refuses this conversation: {words}") from error
        images = [image for message in messages for image in message.get("images", ())]
        return self.tokenize(text, "left", images or None, special=False)

    @property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end an answer."""
        settings: Any = getattr(self.network, "generation_config", None)
        ends = getattr(settings, "eos_token_id", None)
        if ends is None:
            ends = self.require_tokenizer().eos_token_id
        return frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])

    @property
    def _padding(self) -> int:
        """What stands where there is no token: any that the model has, as it is masked."""
        token = getattr(self.tokenizer, "pad_token_id", None) or 0
        return token if token < self.vocab_size else 0

    # ---------------------------------------------------------------- reading

    @overload
    def read(self, tokens: str | Sequence[str] | Tokens, sites: str) -> Float[Tensor, "batch ..."]: ...

    @overload
    def read(
        self, tokens: str | Sequence[str] | Tokens, sites: Iterable[str]
    ) -> dict[str, Float[Tensor, "batch ..."]]: ...

    @public()
    def read(
        self, tokens: str | Sequence[str] | Tokens, sites: str | Iterable[str]
    ) -> Float[Tensor, "batch ..."] | dict[str, Float[Tensor, "batch ..."]]:
        """The values at one site, or at several, from one forward pass that stops after the last one needed.

        Args:
            tokens: a text, several texts, or a batch, which may have pictures.
            sites: the name of a site, or several names.

        Returns:
            For one name its values [batch, position, width] ([batch, position, head, width of a head] for heads), after
            any edits of an enclosing `edited` block; for several a dictionary from name to values. A module named by
            path gives what it gives.

        Raises:
            SiteError: a site that does not exist or was not reached.
            TextError: a batch that is longer than the model's context.
        """
        batch = tokens if isinstance(tokens, Tokens) else self.tokenize(tokens)
        found = [self.site(name) for name in ([sites] if isinstance(sites, str) else dict.fromkeys(sites))]
        values: dict[str, Tensor] = {}

        def keep(name: str, x: Tensor) -> None:
            values[name] = x
            if len(values) == len(found):
                raise _Stop

        with torch.set_grad_enabled(self._with_gradients), contextlib.ExitStack() as hooks:
            for site in found:
                hooks.enter_context(attached(site, partial(keep, site.name)))
            with contextlib.suppress(_Stop):
                # The head costs a third of a small model; a module named by path may lie in it.
                self.forward(batch, head=any(site.name.startswith(("logits", "module:")) for site in found))
        missing = [site.name for site in found if site.name not in values]
        if missing:
            raise SiteError(f"site {missing[0]!r} was not reached in the forward pass of this model")
        return values[sites] if isinstance(sites, str) else {site.name: values[site.name] for site in found}

    @public()
    def logits(self, tokens: str | Sequence[str] | Tokens) -> Float[Tensor, "batch position vocabulary"]:
        """The head's logits of a whole forward pass."""
        if not self.has_head:
            raise ModelLacksError(f"{self.name} has no language-model head, so it has no logits")
        batch = tokens if isinstance(tokens, Tokens) else self.tokenize(tokens)
        with torch.set_grad_enabled(self._with_gradients):
            return self.forward(batch).logits

    def forward(self, batch: Tokens, head: bool = True) -> Any:
        """Run the network, or with `head=False` the trunk alone, over a batch."""
        # Packed texts begin at position 0 each, so their row may be longer.
        if batch.segments is None and batch.ids.shape[1] > self.context_length:
            raise TextError(
                f"a batch of {batch.ids.shape[1]:,} tokens is longer than the context of {self.name}, which holds "
                f"{self.context_length:,}; cut it"
            )
        network = self.network if head else self.network.base_model
        keywords: dict[str, Any] = {"input_ids": batch.ids, "attention_mask": batch.mask}
        if batch.pixels is not None:
            keywords["pixel_values"] = batch.pixels
        if batch.segments is not None:
            keywords |= self._packed(batch.segments)
        elif self._takes_positions and not bool(batch.mask[:, 0].all()):
            # Padded on the left: positions count from each row's first real token.
            keywords["position_ids"] = (batch.mask.cumsum(dim=1) - 1).clamp_min(0)
        if self.is_causal:
            keywords["use_cache"] = False
        return network(**keywords)  # type: ignore[operator]

    @cached_property
    def _takes_positions(self) -> bool:
        parameters = inspect.signature(self.network.forward).parameters
        return "position_ids" in parameters

    def _packed(self, segments: Tensor) -> dict[str, Tensor]:
        """Positions that start anew in each text, and the mask that keeps texts apart (and padding to itself)."""
        allowed = segments[:, :, None] == segments[:, None, :]
        if self.is_causal:
            allowed = allowed.tril()
        mask = torch.zeros(allowed.shape, dtype=self.dtype, device=segments.device)
        mask.masked_fill_(~allowed, torch.finfo(self.dtype).min)
        # How many of the tokens before are of the same text.
        positions = (segments[:, :, None] == segments[:, None, :]).tril(-1).sum(dim=2)
        return {"attention_mask": mask[:, None], "position_ids": positions}

    @torch.no_grad()
    def unembed(self, direction: Float[Tensor, "... width"]) -> Float[Tensor, "... vocabulary"]:
        """What a direction in the stream says to each token, by the direct path.

        The direct path is the last norm, linearised at the direction itself, and the head without its bias.
        """
        self.require_head("the direct path to the logits")
        family = family_of(self.network.config)
        steps = [family.final, family.before_head] if family else []
        path = [trunk_of(self.network).get_submodule(step) for step in steps if step]
        for module in [*path, self.network.get_output_embeddings()]:  # type: ignore[operator]
            direction = module(direction) - module(direction.new_zeros(direction.shape[-1]))
        return direction

    # ---------------------------------------------------------------- gradients

    @contextlib.contextmanager
    def gradients(self, sites: str | Iterable[str] = ()) -> Iterator[dict[str, Tensor]]:
        """Build the graph of what is read inside the block; yields the values at some sites, which get gradients.

        The values are those of the last forward pass inside the block. The graph begins at the first of the sites
        that a pass reaches (or at an edit that brings a tensor with gradients of its own), and a backward pass from
        any of what `read` or `logits` gives fills `.grad` of each. Weights get no gradients.

        Example:
            with model.gradients(["layers.2.residual", "layers.3.heads"]) as values:
                model.logits(text)[0, -1, token].backward()
            attribution = (values["layers.3.heads"] * values["layers.3.heads"].grad).sum(dim=-1)
        """
        values: dict[str, Tensor] = {}
        before = self._with_gradients
        with contextlib.ExitStack() as hooks:
            for name in [sites] if isinstance(sites, str) else dict.fromkeys(sites):
                hooks.enter_context(attached(self.site(name), partial(track, values, name)))
            self._with_gradients = True
            try:
                yield values
            finally:
                self._with_gradients = before

    @contextlib.contextmanager
    def frozen(self, *, norms: bool = True, attention: bool = True) -> Iterator["Model"]:
        """Have gradients inside the block take norms' denominators and attention patterns for constants.

        No value of a forward pass changes, bit for bit. What is left to a backward pass is linear but for the MLPs'
        nonlinearities and capped logits: values and their projections, and norms as fixed scales.

        Args:
            norms: hold each norm's scale 1 / sqrt(mean(x^2) + eps); a LayerNorm's centring is linear, and stays.
            attention: hold each layer's pattern, the softmax of its scores, so that nothing reaches queries and keys.
        """
        with contextlib.ExitStack() as hooks:
            if norms:
                for norm in norms_of(self.network):
                    hooks.callback(norm.register_forward_hook(freeze_scale, prepend=True).remove)
            if attention:
                self.site("layers.0.pattern")  # says what to do where the family is not known
                for name in self.sites():
                    if name.endswith(".pattern"):
                        hooks.enter_context(attached(self.site(name), freeze, first=True))
            yield self

    # ---------------------------------------------------------------- editing

    @contextlib.contextmanager
    def edited(self, *edits: SiteEdit) -> Iterator["Model"]:
        """Apply edits to whatever runs inside the block; nothing is left behind, also after an exception.

        Edits at one site, of this and of enclosing blocks, all read the same unedited x, and their changes
        are added. Edits at several sites act in the order of the forward pass.
        """
        placed: list[tuple[str, SiteEdit]] = []
        try:
            for edit in edits:
                where_of(edit)  # raises where it is none
                site = self.site(edit.site)
                if site.name not in self._edit_hooks:
                    hooks = contextlib.ExitStack()
                    hooks.enter_context(
                        attached(site, partial(self._apply, self._edits.setdefault(site.name, []), site))
                    )
                    self._edit_hooks[site.name] = hooks
                self._edits[site.name].append(edit)
                placed.append((site.name, edit))
            yield self
        finally:
            for name, edit in reversed(placed):
                remaining = self._edits[name]
                remaining.pop(max(i for i, other in enumerate(remaining) if other is edit))
                if not remaining:
                    self._edit_hooks.pop(name).close()
                    del self._edits[name]

    def _apply(self, edits: list[SiteEdit], site: Site, x: Tensor) -> Tensor:
        """Sum of the changes that each edit makes to the same x, each on its own tokens."""
        result, state = x, self._generation
        n = x.shape[site.position_axis] if x.ndim > 1 else 1
        end = state.end if state else n  # counted from the end, as logits are made for the last tokens alone
        positions = range(end - n, end)
        for edit in edits:
            tokens = acts_on(edit, positions, state.prompt_length if state else None)
            if not tokens:
                continue
            changed = edit(x).to(x.dtype)
            if changed.shape != x.shape:
                raise EditError(
                    f"an edit of {edit.site} gave back {list(changed.shape)} for {list(x.shape)}; "
                    "an edit keeps the shape"
                )
            mask = self._mask(edit, x.transpose(1, site.position_axis), positions, tokens)
            if mask is not None:
                changed = torch.where(mask.transpose(1, site.position_axis), changed, x)
            # The first edit's result is taken as it is, so that putting back what was read is bit-exact.
            result = changed if result is x else result + (changed - x)
        return result

    def _mask(self, edit: SiteEdit, x: Tensor, positions: range, tokens: range) -> Tensor | None:
        """Where an edit of these of the positions acts [batch or 1, position or 1, 1, ...], None for everywhere."""
        rows: Sequence[int] | None = getattr(edit, "rows", None)
        mask = None
        if tokens != positions:
            place = torch.arange(positions.start, positions.stop, device=x.device)
            mask = ((place >= tokens.start) & (place < tokens.stop))[None, :]
        if rows is not None:
            # Beams and samples of one row lie side by side.
            copies = x.shape[0] // self._generation.n_rows if self._generation else 1
            own = torch.arange(x.shape[0], device=x.device) // copies
            chosen = torch.isin(own, torch.tensor(rows, device=x.device, dtype=own.dtype))[:, None]
            mask = chosen if mask is None else mask & chosen
        return None if mask is None else mask.view(*mask.shape, *(1,) * (x.ndim - 2))

    @contextlib.contextmanager
    def answering(self, n_rows: int) -> Iterator[None]:
        """Inside the block the tokens that pass through the model are of answers, one of each of `n_rows` rows."""
        self._generation = _Generation(n_rows, prompt_length=0, end=1)
        try:
            yield
        finally:
            self._generation = None

    # ---------------------------------------------------------------- generating

    @public()
    @torch.no_grad()
    def generate(self, prompt: str | Tokens, max_new_tokens: int = 60, **options: Any) -> str:
        """Continue a prompt, under the edits of an enclosing block, and return the new text alone.

        Further options go to transformers' `generate`; decoding is greedy unless they say otherwise.
        """
        tokenizer = self.require_tokenizer()
        batch = prompt if isinstance(prompt, Tokens) else self.tokenize(prompt, side="left")
        ids = self.generate_ids(batch, max_new_tokens, **options)
        return decode(tokenizer, ids[0, batch.ids.shape[1] :].tolist()).strip()

    @torch.no_grad()
    def generate_ids(self, batch: Tokens, max_new_tokens: int, **options: Any) -> Int[Tensor, "row position"]:
        """Continue a left-padded batch; returns prompt and answer ids [batch, position].

        It ends where the model's context does.

        Raises:
            ModelLacksError: the model cannot generate.
            TextError: the prompt leaves no room in its context.
        """
        self.require_head("generating")
        room = self.context_length - batch.ids.shape[1]
        if room < 1:
            raise TextError(
                f"the prompt has {batch.ids.shape[1]:,} tokens, but the context of {self.name} holds "
                f"{self.context_length:,} with the answer; shorten it"
            )
        max_new_tokens = min(max_new_tokens, room)
        options = {"do_sample": False, "pad_token_id": self._padding} | options
        if batch.pixels is not None:
            if (
                len(batch.pixels) != len(batch.ids)
                and max(options.get("num_beams", 1), options.get("num_return_sequences", 1)) > 1
            ):
                raise ModelLacksError(
                    f"{len(batch.pixels)} pictures in {len(batch.ids)} rows: transformers copies pictures to beams one "
                    "a row; give one picture a row, or one beam"
                )
            options["pixel_values"] = batch.pixels
        self._generation = _Generation(*batch.ids.shape)
        follow = self.network.register_forward_pre_hook(self._follow, with_kwargs=True)
        try:
            return self.network.generate(  # type: ignore[operator]
                input_ids=batch.ids, attention_mask=batch.mask, max_new_tokens=max_new_tokens, **options
            )
        finally:
            follow.remove()
            self._generation = None

    def _follow(self, _: nn.Module, __: tuple, keywords: dict) -> None:
        """Before each forward pass of a generation: note where its last token stands."""
        assert self._generation is not None
        cache, ids = keywords.get("past_key_values"), keywords["input_ids"]
        self._generation.end = ids.shape[1] + (int(cache.get_seq_length()) if cache is not None else 0)


def _plain(number: int, message: Any) -> dict[str, Any]:
    """A message as templates take it; raises ConversationError where it lacks its role or content."""
    try:
        return {"role": message["role"], "content": message["content"]}
    except (KeyError, TypeError) as error:
        raise ConversationError(
            f"message {number} is {shorten(repr(message), 60)}, but must have a role and a content"
        ) from error


_IN_PARTS = re.compile(r"""['"]type['"]|\.type\b""")
"""in a chat template: it wants a message's content as a list of text and image parts"""


def _in_parts(content: str, mark: str) -> list[dict[str, str]]:
    """A message's content as a list of text and image parts."""
    parts: list[dict[str, str]] = []
    for number, text in enumerate(content.split(mark)):
        parts += [{"type": "image"}] * (number > 0)
        parts += [{"type": "text", "text": text}] * bool(text)
    return parts
