"""Sums of exponentials, forked generators."""

import math

import pytest
import torch
from scipy.special import logsumexp

from evidence.numerics import effective_sample_size, log_mean_exp, summarize
from evidence.streams import forked_rng


def test_log_mean_exp_is_scipys_also_where_exp_overflows() -> None:
    values = torch.randn(6, 5, dtype=torch.float64) * 300 - 800
    expected = logsumexp(values.numpy(), axis=0) - math.log(6)
    torch.testing.assert_close(log_mean_exp(values), torch.from_numpy(expected))


@pytest.mark.parametrize("sizes", [[10], [1] * 10, [7, 3], [3, 3, 4]])
def test_merged_chunks_are_the_whole(sizes: list[int]) -> None:
    log_w = torch.randn(10, 4, dtype=torch.float64) * 5 - 500
    parts = [summarize(part) for part in log_w.split(sizes)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    assert merged.num_samples == 10
    torch.testing.assert_close(merged.log_evidence, log_mean_exp(log_w))
    torch.testing.assert_close(merged.elbo, log_w.mean(0))
    w = (log_w - log_w.max()).exp()
    torch.testing.assert_close(merged.effective_sample_size, w.sum(0) ** 2 / w.square().sum(0))


def test_effective_sample_size_counts_equal_weights_and_ignores_their_scale() -> None:
    log_w = torch.full((8, 2), -540.0)
    log_w[4:, 1] = -torch.inf
    torch.testing.assert_close(effective_sample_size(log_w), torch.tensor([8.0, 4.0]))


def test_forked_generators_depend_on_the_seeds_alone_and_leave_no_trace() -> None:
    def inside(*seeds: int) -> torch.Tensor:
        with forked_rng(torch.device("cpu"), *seeds):
            return torch.rand(3)

    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    first = inside(5, 100)
    torch.testing.assert_close(torch.rand(2), expected, rtol=0, atol=0)
    torch.testing.assert_close(inside(5, 100), first, rtol=0, atol=0)
    assert not torch.equal(inside(5, 101), first)
    assert not torch.equal(inside(6, 99), first)
