"""Association scores with a memory of references."""

import torch
from torch.nn import functional as F

from anoframe.models.winclip.association import Association


def unit(*shape, rng):
    return F.normalize(torch.randn(*shape, generator=rng), dim=-1)


def test_an_entry_of_the_memory_scores_exactly_zero(rng):  # W10
    memory = unit(50, 8, rng=rng)
    assert torch.equal(Association(memory).scores(memory[None, 10:20]), torch.zeros(1, 10))


def test_orthogonal_is_a_half_and_opposite_is_one():  # W10
    memory = torch.tensor([[1.0, 0.0, 0.0]])
    queries = torch.tensor([[[0.0, 1.0, 0.0], [0.0, 0.6, 0.8], [-1.0, 0.0, 0.0], [0.6, 0.8, 0.0]]])
    torch.testing.assert_close(Association(memory).scores(queries), torch.tensor([[0.5, 0.5, 1.0, 0.2]]))


def test_scores_are_those_of_a_loop(rng):
    memory, queries = unit(700, 12, rng=rng), unit(3, 40, 12, rng=rng)
    expected = torch.zeros(3, 40)
    for b in range(3):
        for n in range(40):
            expected[b, n] = min((1 - float(queries[b, n].double() @ row.double())) / 2 for row in memory)
    torch.testing.assert_close(Association(memory).scores(queries), expected)


def test_more_references_never_raise_a_score(rng):  # W11
    memory, queries = unit(400, 12, rng=rng), unit(2, 60, 12, rng=rng)
    previous = Association(memory[:50]).scores(queries)
    for count in (100, 200, 400):
        scores = Association(memory[:count]).scores(queries)
        assert (scores <= previous).all()
        previous = scores


def test_the_order_of_the_memory_does_not_matter(rng):  # W13
    memory, queries = unit(300, 12, rng=rng), unit(2, 60, 12, rng=rng)
    shuffled = memory[torch.randperm(300, generator=rng)]
    assert torch.equal(Association(memory).scores(queries), Association(shuffled).scores(queries))
