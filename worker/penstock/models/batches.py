"""Which texts share a forward pass. Pure."""

from collections.abc import Sequence


def plan_batches(lengths: Sequence[int], token_budget: int) -> list[list[int]]:
    """Groups of indices, longest texts first, each within the budget of padded tokens.

    A group costs its longest length times its size, since every text in it is padded to the longest. A text
    longer than the budget goes alone. Sorting by length keeps the padding small.
    """
    batches: list[list[int]] = []
    room = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if room == 0:
            batches.append([])
            room = max(1, token_budget // max(1, lengths[index]))
        batches[-1].append(index)
        room -= 1
    return batches


def round_up(number: int, multiple: int) -> int:
    """The next multiple: fewer different shapes for a runtime to plan and to reserve memory for."""
    return -(-number // multiple) * multiple
