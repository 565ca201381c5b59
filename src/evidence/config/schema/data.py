"""The sections of conf/data/."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evidence.config.schema.base import Built
from evidence.config.schema.roles import Role
from evidence.config.schema.values import Count, Folder, Name


class Data(Built):
    """conf/data/, and the user's own data. `is_pinned` says whether checksums in the code pin the images.

    A run's identity includes a hash of the content of images that are not pinned.
    """

    is_pinned: ClassVar[bool] = False
    name: Name
    pixels: Count


class _Pinned(Data, extra="forbid"):
    is_pinned = True


class GreyImages(_Pinned):
    """conf/data/: any data set of this package without a section of its own, such as mnist.yaml or omniglot.yaml."""

    prefix = "evidence.data."
    folder: Annotated[Folder, Role.OUTSIDE]
    pixels: Literal[784]
    binarization: Literal["stochastic", "threshold"]


class FixedImages(_Pinned):
    """conf/data/mnist_fixed.yaml."""

    built_by: Literal["evidence.data.mnist_fixed"] = Field(alias="_target_")
    folder: Annotated[Folder, Role.OUTSIDE]
    pixels: Literal[784]


class Digits(_Pinned):
    """conf/data/digits.yaml."""

    built_by: Literal["evidence.data.digits"] = Field(alias="_target_")
    pixels: Literal[64]
    binarization: Literal["stochastic", "threshold"]
