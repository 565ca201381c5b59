"""Defines the types of single settings: bounded numbers, names, folders, and names of classes."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field


def _name(text: str) -> str:
    is_plain = text.isprintable() and not set(text) & set("/\\") and text == text.strip()
    if not is_plain or text.startswith((".", "-")) or not 0 < len(text.encode()) <= 64:
        raise ValueError(
            "must be a name: not empty, at most 64 bytes, no slashes, no space around it, no dot or dash in front"
            " (folders are named so)"
        )
    return text


def _folder(text: str) -> str:
    if not text.isprintable() or text.isspace() or text.startswith("~"):
        raise ValueError(
            "must be a folder: printable, not blank, no ~ in front (write $HOME, outside of quotes)"
        )
    if len(text.encode()) > 1000 or max(len(part.encode()) for part in text.split("/")) > 255:
        raise ValueError("must be a folder: at most 1000 bytes, and 255 between two slashes")
    return text


def _target(text: str) -> str:
    if "." not in text or not all(part.isidentifier() for part in text.split(".")):
        raise ValueError("must be the full name of a class or a function, such as package.module.Class")
    return text


def _float32(value: float) -> float:
    if not 1e-30 <= value <= 1e30:
        raise ValueError("must be from 1e-30 to 1e30: beyond, float32 knows no numbers")
    return value


def _interval(value: Any) -> Any:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 10**6
    if not (is_count or value in ("auto", None)):
        raise ValueError("must be a whole number from 1 to 1000000, auto, or null")
    return value


def switch(word: str) -> BeforeValidator:
    """True, false or this word. A union by itself would name its members in the error."""

    def check(value: Any) -> Any:
        if not isinstance(value, bool) and value != word:
            raise ValueError(f"must be true, false or {word}")
        return value

    return BeforeValidator(check)


Name = Annotated[str, AfterValidator(_name)]
Text = Annotated[str, Field(min_length=1)]
Folder = Annotated[Text, AfterValidator(_folder)]
Target = Annotated[Text, AfterValidator(_target)]
Natural = Annotated[int, Field(ge=0, le=10**9)]  # the upper bounds turn a typing mistake into a message
Count = Annotated[int, Field(ge=1, le=10**6)]
Interval = Annotated[Any, AfterValidator(_interval)]  # int, "auto" or None
LargeCount = Annotated[int, Field(ge=1, le=10**9)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
FLOAT32 = AfterValidator(_float32)
Positive = Annotated[float, Field(gt=0), FLOAT32]
NotNegative = Annotated[float, Field(ge=0)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Activation = Literal["tanh", "relu"]
