"""An encoder in eight bits, which proposes candidates whose exact values the compiled kernels compute."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from sonde.kernels.active import Active, Adam, Bias, RowGradient, Rows, Weights, chosen
from sonde.kernels.compiled import CompiledKernels
from sonde.kernels.sparse import DOUBT, MORE, SAMPLED, likely_floor

LARGE, MOST_LARGE = 4.0, 16
"""outlier dimensions are multiplied as floats: those LARGE times the median, and at most MOST_LARGE of them"""


class Packed:
    """Proposes candidates by an eight-bit product; their values in float32 decide.

    Args:
        W_enc: float32.
        rms: root mean square of each dimension of the inputs to come, by which the dimensions are scaled before they
            are rounded to eight bits.
    """

    def __init__(self, kernels: CompiledKernels, W_enc: Weights, b_enc: Bias, rms: Float[Tensor, " width"]) -> None:
        self.kernels, self.W_enc, self.b_enc = kernels, W_enc.detach(), b_enc.detach()
        n, width = W_enc.shape
        padded = -(-n // kernels.panel) * kernels.panel
        usual = max(rms.median().item(), 1e-30)
        self.large = (rms > LARGE * usual).nonzero().flatten()[:MOST_LARGE]
        self.factor = rms.float().clamp_min(1e-3 * usual)
        self.inverse = 1 / self.factor
        self.factor[self.large], self.inverse[self.large] = 0.0, 0.0
        self.large_W = torch.zeros(len(self.large), padded)
        self.weights = torch.full((padded * width,), 128, dtype=torch.uint8)
        self.scale, self.bias = torch.zeros(padded), torch.full((padded,), -torch.inf)
        self.n_full = 0
        """rows that were computed in full, as a candidate might have been missed"""
        # Adapted from batch to batch; they change how long a result takes, never the result.
        self.more, self.slack, self.last_floor, self.capacity = MORE, 0.0, 0.0, 128
        self.repack()

    def repack(self) -> None:
        """Pack the weights again, after they were changed by other means than `update`."""
        arguments = (self.W_enc, self.factor, self.W_enc.shape[1], self.weights, self.scale)
        self.kernels.share("pack_rows", len(self.W_enc), *arguments)

    def update(self, gradient: RowGradient, moments: tuple[Weights, Weights], adam: Adam) -> None:
        """Take one step of Adam on the encoder's weights, which are packed again on the way."""
        self.kernels.update(gradient, self.W_enc, moments, adam, (self.factor, self.weights, self.scale))

    def topk(self, x: Rows, k: int) -> Active:
        """The k largest positive pre-activations of each row of x; of equal ones, the lower features.

        Rows on which one of them may not have been proposed are computed in full.
        """
        (n, width), n_rows = self.W_enc.shape, len(x)
        wanted = min(n, k + self.more)
        proposed = self._propose(x, wanted + max(wanted, 4 * self.kernels.panel), wanted=wanted)
        assert proposed is not None
        (estimate, _, feature, starts), floor = proposed
        exact = self.kernels.products(x, self.W_enc, self.b_enc, proposed[0])
        count, doubtful = torch.empty(n_rows, dtype=torch.int32), torch.empty(n_rows, dtype=torch.uint8)
        self.kernels.share("choose", n_rows, k, DOUBT, starts, estimate, exact, feature, floor, count, doubtful)
        if wanted < n:
            rows = doubtful.nonzero().flatten()
            room, places = torch.empty(len(rows), 2 * k), torch.empty(len(rows), 2 * k, dtype=torch.int32)
            arguments = (rows, x, self.W_enc, self.b_enc, width, n, k, room, places, starts, exact, feature, count)
            self.kernels.share("choose_of_all", len(rows), *arguments, at_once=16)
            self.n_full += len(rows)
            if len(rows) * 1000 > n_rows:  # that costs more than to propose more candidates
                self.more = min(8 * MORE, 2 * self.more)
        return self._compact(starts[:-1], count, exact, feature)

    def above(self, x: Rows, floor: Float[Tensor, "..."]) -> Active | None:
        """All pre-activations of x above a floor ([n_features], or one for all).

        None where more than an eighth of all features are above it on some row.
        """
        while True:
            floors = torch.full_like(self.scale, torch.inf)
            floors[: len(self.b_enc)] = floor - self.slack
            proposed = self._propose(x, self.capacity + self.kernels.panel, floors=floors)
            if proposed is None:
                if self.capacity * 8 >= len(self.scale):
                    return None
                self.capacity *= 2
                continue
            candidates, _ = proposed
            exact = self.kernels.products(x, self.W_enc, self.b_enc, candidates)
            error = DOUBT * (exact - candidates.value).abs().max().item() if len(exact) else 0.0
            if error <= self.slack:
                floors = floor[candidates.feature.long()] if floor.dim() else floor
                return chosen(candidates._replace(value=exact), exact > floors)
            self.slack = 1.25 * error  # the estimate of a pair that was not proposed may be too low by as much

    def batch_topk(self, x: Rows, k: int) -> Active | None:
        """The k * rows largest positive pre-activations of a batch.

        None where no threshold leaves that many of them and few enough for `above`.
        """
        wanted = k * len(x)
        for floor in self._floors(x, k):
            active = self.above(x, torch.tensor(floor)) if floor > 0 else None
            if active is not None and len(active.value) >= wanted:
                least = active.value.kthvalue(len(active.value) - wanted + 1).values
                self.last_floor = least.item()
                kept, [ties] = active.value > least, (active.value == least).nonzero(as_tuple=True)
                kept[ties[: wanted - int(kept.sum())]] = True
                return chosen(active, kept)
        return None

    def _floors(self, x: Tensor, k: int) -> Iterator[float]:
        """Thresholds that a little more than k pre-activations of a row exceed, from the last batch or a sample."""
        yield 0.97 * self.last_floor
        yield 0.9 * self.last_floor
        yield likely_floor(torch.addmm(self.b_enc, x[:: max(1, len(x) // SAMPLED)], self.W_enc.T), k).item()

    def _propose(
        self, x: Tensor, capacity: int, *, floors: Tensor | None = None, wanted: int = 0
    ) -> tuple[Active, Tensor] | None:
        """The pairs whose estimate exceeds `floors` [n_features], or the `wanted` largest of each row.

        With them, for each row, the largest estimate that may have been left out. None where a row has more than
        `capacity` pairs above the floors.
        """
        n, n_features = len(x), len(self.b_enc)
        self.bias[:n_features], self.large_W[:, :n_features] = self.b_enc, self.W_enc[:, self.large].T
        value, feature = torch.empty(n, capacity), torch.empty(n, capacity, dtype=torch.int32)
        count, floor = torch.empty(n, dtype=torch.int32), torch.empty(n)
        arguments = (x, self.inverse, x.shape[1], self.weights, self.scale, self.bias, len(self.scale))
        arguments = (*arguments, len(self.large), self.large, self.large_W, floors, wanted)
        results = (capacity, value, feature, count, floor)
        at_once = min(384, max(48, -(-n // (48 * torch.get_num_threads())) * 12))  # whole strips, as in compiled.c
        overflowed = self.kernels.share("propose", n, *arguments, *results, at_once=at_once)
        if min(overflowed) < 0:
            raise MemoryError
        if any(overflowed):
            return None
        return self._compact(torch.arange(0, n * capacity, capacity), count, value, feature), floor

    def _compact(self, from_: Tensor, count: Tensor, value: Tensor, feature: Tensor) -> Active:
        """The first `count` pairs of each row, which begin at `from_` [row]."""
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), count.cumsum(0)])
        n_pairs = int(starts[-1])
        row = torch.arange(len(count), dtype=torch.int32).repeat_interleave(count, output_size=n_pairs)
        active = Active(torch.empty(n_pairs), row, torch.empty(n_pairs, dtype=torch.int32), starts)
        self.kernels.share("compact", len(count), from_, starts, value, feature, active.value, active.feature)
        return active
