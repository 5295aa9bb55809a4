"""Matrix products of tokens and weights, by the fastest kernel of the device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# oneDNN's kernel, which torch.compile uses as well. torch's own choice in float32, MKL, takes 10 to 25 % more time on
# processors of AMD. It is not public: without it, everything works at torch's own speed.
_ONEDNN = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


def linear(tokens: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Compute `tokens @ weight.T + bias`, without gradients, for tokens `[..., in]` and a weight `[out, in]`."""
    is_float32 = tokens.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if torch.compiler.is_exporting() or _ONEDNN is None or tokens.device.type != "cpu" or not is_float32:
        return functional.linear(tokens, weight, bias)
    product: Tensor = _ONEDNN(tokens.reshape(-1, tokens.shape[-1]), weight, bias, "none", [], "")
    return product.view(*tokens.shape[:-1], -1)
