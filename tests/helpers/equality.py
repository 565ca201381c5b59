"""States, which are tensors in dicts and lists, compared bit for bit."""

import torch
from torch import Tensor


def assert_equal(found: object, expected: object) -> None:
    """The same keys in the same order, and equal values."""
    if isinstance(expected, Tensor):
        assert isinstance(found, Tensor)
        assert torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert isinstance(found, dict)
        assert list(found) == list(expected)
        for key in expected:
            assert_equal(found[key], expected[key])
    elif isinstance(expected, list):
        for ours, theirs in zip(found, expected, strict=True):  # type: ignore[call-overload]
            assert_equal(ours, theirs)
    else:
        assert found == expected
