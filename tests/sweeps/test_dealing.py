"""Jobs of a sweep are dealt to the devices that there are, and packed by their memory."""

import pytest

from evidence.sweeps import packed


@pytest.mark.parametrize(
    ("forms", "devices", "expected"),
    [
        ("aaa", 1, [[0, 1, 2]]),
        ("abab", 1, [[0, 2, 1, 3]]),
        ("abab", 2, [[0, 2], [1, 3]]),
        ("aaaa", 2, [[0, 1], [2, 3]]),
        ("aaabbbccc", 3, [[0, 1, 2], [3, 4, 5], [6, 7, 8]]),
        ("aaaaab", 2, [[0, 1, 2], [3, 4, 5]]),
        ("ab", 4, [[0], [1]]),
    ],
)
def test_jobs_of_one_form_share_a_device_and_no_device_is_idle(
    forms: str, devices: int, expected: list[list[int]]
) -> None:
    assert packed.deal(forms, devices) == expected


@pytest.mark.parametrize("devices", range(1, 9))
@pytest.mark.parametrize("number", [1, 7, 24])
def test_each_job_is_dealt_once_and_no_device_has_twice_its_share(number: int, devices: int) -> None:
    forms = [each * each % 5 for each in range(number)]
    shares = packed.deal(forms, devices)
    assert sorted(each for share in shares for each in share) == list(range(number))
    assert max(map(len, shares)) <= 2 * -(-number // devices)
