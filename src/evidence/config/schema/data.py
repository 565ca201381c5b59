"""The sections of conf/data/."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from evidence.config.schema.base import Built
from evidence.config.schema.roles import Role
from evidence.config.schema.values import Count, Folder, Name


class Data(Built):
    """conf/data/. Where checksums in the code pin the images (`is_pinned`), a run's identity needs no other hash."""

    is_pinned: ClassVar[bool] = True
    name: Name
    pixels: Count


class OwnData(Data, extra="allow"):
    """The user's own data. A run's identity has the hash of its content."""

    prefix = ""
    is_pinned = False


class GreyImages(Data):
    """conf/data/mnist.yaml, fashion_mnist.yaml, omniglot.yaml: any set of this package without a section of its own."""

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
