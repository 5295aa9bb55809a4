"""Compare the loss of CDO with that of its public code on random features and masks.

    python benchmarks/cdo_reference.py CHECKOUT

CHECKOUT is a checkout of https://github.com/caoyunkang/CDO. Prints the largest difference of loss and gradient.
"""

from __future__ import annotations

import argparse
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anoframe.models.cdo.loss import cdo_loss, discrepancies

CASES = 100


def load_public_loss(checkout: Path) -> Any:
    """Return the class of the public loss. Its package imports more than the loss needs, so only that file is run."""
    path = checkout / "loss" / "cdo_loss.py"
    source = path.read_text(encoding="utf-8").replace("from . import LOSS", "")
    module = types.ModuleType("public_cdo_loss")
    module.LOSS = types.SimpleNamespace(register_module=lambda cls: cls)  # type: ignore[attr-defined]
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module.CDOLoss  # type: ignore[attr-defined]


def random_case(seed: int) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Return features of expert and apprentice on three levels, and a mask with normal and defective pixels."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(4, 8, 16, 16), (4, 12, 8, 8), (4, 20, 4, 4)]
    expert, apprentice = ([torch.randn(shape, generator=generator) for shape in shapes] for _ in range(2))
    mask = torch.zeros(4, 64, 64, dtype=torch.bool)
    mask[:, 8 : 8 + 4 * (1 + seed % 10), 12:40] = True
    return expert, apprentice, mask


def with_gradient(apprentice: list[Tensor]) -> list[Tensor]:
    """Return copies that require gradients."""
    return [level.clone().requires_grad_() for level in apprentice]


def difference(public: type[nn.Module], seed: int) -> float:
    """Return the largest difference of one case, relative to 1 for losses and to the largest gradient."""
    expert, apprentice, mask = random_case(seed)
    gamma, weighted = [(0, True), (2, True), (3, True), (2, False)][seed % 4]
    theirs, ours = with_gradient(apprentice), with_gradient(apprentice)
    loss = public(gamma=gamma, OOM=weighted)(list(expert), list(theirs), mask[:, None].float())
    loss.backward()
    own = torch.stack([cdo_loss(d, mask, gamma * weighted) for d in discrepancies(expert, ours)]).sum()
    own.backward()
    gradients = [
        float((a.grad - b.grad).abs().max() / a.grad.abs().max())  # type: ignore[operator, union-attr]
        for a, b in zip(theirs, ours, strict=True)
    ]
    return max(abs(float(loss.detach()) - float(own.detach())), *gradients)


def main() -> int:
    """Compare all cases."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    public = load_public_loss(parser.parse_args().checkout)
    largest = max(difference(public, seed) for seed in range(CASES))
    print(f"largest difference of loss and relative gradient in {CASES} cases: {largest:.2e}")
    return 0 if largest < 1e-5 else 1


if __name__ == "__main__":
    sys.exit(main())
