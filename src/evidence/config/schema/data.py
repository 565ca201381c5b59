"""The sections of conf/data/."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evidence.config.schema.base import Built
from evidence.config.schema.roles import Role
from evidence.config.schema.values import Count, Folder, Name


class Data(Built):
    """conf/data/. `is_pinned` says whether checksums in the code pin the images.

    A run's identity then needs no hash of their content.
    """

    is_pinned: ClassVar[bool] = True
    name: Name
    pixels: Count


class OwnData(Data, extra="allow"):
    """The user's own data. A run's identity includes a hash of its content."""

    prefix = ""
    is_pinned = False


class GreyImages(Data):
    """conf/data/: any data set of this package without a section of its own, such as mnist.yaml or omniglot.yaml."""

    prefix = "evidence.data."
    folder: Annotated[Folder, Role.OUTSIDE]
    pixels: Literal[784]
    binarization: Literal["stochastic", "threshold"]


class FixedImages(Data):
    """conf/data/mnist_fixed.yaml."""

    built_by: Literal["evidence.data.mnist_fixed"] = Field(alias="_target_")
    folder: Annotated[Folder, Role.OUTSIDE]
    pixels: Literal[784]


class Digits(Data):
    """conf/data/digits.yaml."""

    built_by: Literal["evidence.data.digits"] = Field(alias="_target_")
    pixels: Literal[64]
    binarization: Literal["stochastic", "threshold"]
