"""What is said of a patched run: one number from its next-token logits, beside the clean and the corrupt run's."""

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from sonde.errors import SettingsError

MetricName = Literal["difference", "log-probability", "kl"]
MEANINGS = {
    "difference": "1 is the clean run's logit difference, 0 the corrupt run's",
    "log-probability": "change of the answer's log-probability from the run without a patch, in nats",
    "kl": "divergence of the next-token distribution from the clean run's, in nats",
}
LEAST_GAP = 1e-6
"""of clean and corrupt logit difference, between which nothing can be normalised"""


@dataclass(frozen=True, eq=False)
class Metric:
    """A number of logits [row, vocabulary].

    difference       (d - d_corrupt) / (d_clean - d_corrupt), with d the logit of the answer less that of the wrong one
                     (Wang et al. 2022, arXiv 2211.00593); without a corrupt run d / d_clean
    log-probability  of the answer, less that in the run without a patch
    kl               the divergence of the prediction from the clean run's

    The first is negative where a patch makes the wrong answer likelier still; a probability would hide that.
    """

    name: MetricName
    answer: int
    wrong: int | None
    clean: Float[Tensor, "1 vocabulary"]
    corrupt: Float[Tensor, "1 vocabulary"] | None
    base: Float[Tensor, "1 vocabulary"]
    """of the run that is patched"""

    def __post_init__(self) -> None:
        if self.name != "difference":
            return
        if self.wrong is None:
            raise SettingsError("the logit difference needs a wrong answer too; give one, or metric log-probability")
        if (
            self.clean_difference is not None
            and abs(self.clean_difference - (self.corrupt_difference or 0)) < LEAST_GAP
        ):
            raise SettingsError(
                f"the clean and the corrupt run have the same logit difference ({self.clean_difference:.3f}), so that "
                "nothing can be normalised; give other prompts, or metric log-probability"
            )

    def difference(self, logits: Float[Tensor, "row vocabulary"]) -> Float[Tensor, " row"]:
        """The logit of the answer less that of the wrong one."""
        assert self.wrong is not None
        return logits[:, self.answer] - logits[:, self.wrong]

    @property
    def clean_difference(self) -> float | None:
        return None if self.wrong is None else float(self.difference(self.clean)[0])

    @property
    def corrupt_difference(self) -> float | None:
        return None if self.wrong is None or self.corrupt is None else float(self.difference(self.corrupt)[0])

    def __call__(self, logits: Float[Tensor, "row vocabulary"]) -> Float[Tensor, " row"]:
        if self.name == "difference":
            assert self.clean_difference is not None
            low = self.corrupt_difference or 0.0
            return (self.difference(logits) - low) / (self.clean_difference - low)
        log_p = logits.log_softmax(dim=1)
        if self.name == "log-probability":
            return log_p[:, self.answer] - self.base.log_softmax(dim=1)[:, self.answer]
        clean = self.clean.log_softmax(dim=1)
        return (clean.exp() * (clean - log_p)).sum(dim=1)
