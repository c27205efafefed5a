"""What a recipe is: how dictionaries of one kind are trained."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from torch import Tensor

from sonde.dictionaries.dictionary import Dictionary
from sonde.training.losses import LossSettings, StepLoss, X, Y

Sample = Callable[[int], Iterator[Tensor]]
"""yields scaled inputs [row, d_in] of about so many training rows, in batches"""


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What a kind is trained with, where no setting says otherwise."""

    centred: bool = True
    """whether the mean is subtracted from inputs"""
    decoder_norms: Literal["unit", "free"] = "unit"
    decoder_start: float = 1.0
    """length of decoder rows at the start, where they are free"""
    encoder_start: float = 1.0
    """length of encoder rows at the start, relative to the decoder's"""
    sparsity: float = 0.0
    """weight of the penalty"""
    sparsity_per_dimension: float = 0.0
    """what is added to that weight for each dimension that is written"""
    sparsity_warm_up: float = 0.0
    """share of steps over which the penalty grows from zero"""
    revived: bool = False
    """whether AuxK revives dead features"""
    beta1: float = 0.9
    """of Adam"""


@dataclass(frozen=True, kw_only=True)
class Recipe(ABC):
    """How dictionaries of one kind are trained.

    The fields are settings of `TrainSettings`. Those that a subclass adds are taken by its kind, and refused for kinds
    whose recipes do not have them. A field keeps its default where the setting is left open.
    """

    dictionary_class: ClassVar[type[Dictionary]]

    n_features: int
    decoder_norms: Literal["unit", "free"] | None = None

    @classmethod
    def takes(cls) -> set[str]:
        """The names of the settings that this kind takes beyond those that every kind takes."""
        return {field.name for field in fields(cls)} - {field.name for field in fields(Recipe)}

    @property
    def defaults(self) -> Defaults:
        """What the kind is trained with, where no setting says otherwise."""
        return Defaults()

    @property
    def unit_norm(self) -> bool:
        """Whether decoder rows are kept at length one."""
        return (self.decoder_norms or self.defaults.decoder_norms) == "unit"

    def check(self) -> None:  # noqa: B027 (most kinds have nothing to check)
        """Raise SettingsError where settings of the kind are out of range or contradict each other."""

    def kind_settings(self) -> dict[str, Any]:
        """The arguments of the dictionary's class beyond its sizes."""
        return {}

    def start(self, dictionary: Any, read: Tensor, written: Tensor, sample: Sample) -> None:
        """Set the weights before the first step; what is not set is zero.

        Args:
            read, written: [n_features, d_in] and [n_features, d_out], directions of length one.
        """
        length = 1.0 if self.unit_norm else self.defaults.decoder_start
        dictionary.W_dec.copy_(written * length)
        dictionary.W_enc.copy_(read * length * self.defaults.encoder_start)

    @abstractmethod
    def loss(self, dictionary: Any, x: X, y: Y, settings: LossSettings) -> StepLoss:
        """The loss on scaled inputs x and what is to be reconstructed from them, y; autograd takes its gradient."""

    def finish(self, dictionary: Any, sample: Sample) -> None:  # noqa: B027 (most have nothing left)
        """Set what training leaves open, before scaling is folded in."""
