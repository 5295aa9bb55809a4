"""Settings of self-expansion: the section `model.sema` of a config."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from anoframe.errors import AnoframeError

ROUTINGS = ("learned", "rd", "reconstruction")
SUBLAYERS = {"ffn": ("ffn",), "attn": ("attn", "self", "cross"), "both": ("attn", "self", "cross", "ffn")}
MODES = ("parallel", "sequential")
SCAN_ORDERS = ("sequential", "joint")
LEAST_RECORDS = 3  # losses; with fewer, the standard deviation is meaningless and z is 0

# Field -> its name in `config.sema_config` of results/continual.json, where external scripts read it. Fields that are
# not listed have the same name there.
RECORD_NAMES = {
    "position": "sema_position",
    "mode": "sema_mode",
    "start_layer": "sema_start_layer",
    "end_layer": "sema_end_layer",
    "descriptor_dim": "rd_dim",
    "descriptor_relu": "rd_relu",
    "descriptor_buffer_size": "rd_buffer_size",
    "descriptor_loss_weight": "rd_loss_weight",
}


@dataclass(frozen=True)
class SemaSettings:
    """Settings of adapters, descriptors, routing and expansion.

    Args:
        adapter_bottleneck: bottleneck width of an adapter.
        adapter_dropout: dropout of an adapter after its ReLU, in training.
        adapter_scalar: factor of an adapter's output.
        position: sub-layers with adapters: `"ffn"` the feed-forward networks (8 sites with 4 + 4 layers), `"attn"` the
            attentions (12), `"both"` (20).
        mode: `"parallel"`: an adapter receives the sub-layer's input and is added to its residual sum; `"sequential"`:
            it receives the sub-layer's output and is added to it. The decoder's first attention is always sequential:
            its input is a learned query, the same for all images.
        descriptor_dim: bottleneck width of a descriptor.
        descriptor_relu: use a ReLU in the descriptor; without, it is linear, as in the paper's code.
        descriptor_buffer_size: number of images whose losses give the statistics of a descriptor.
        descriptor_loss_weight: weight of the descriptor loss if `joint_loss`.
        joint_loss: train descriptors together with adapters instead of after them.
        expansion_threshold: z-score above which a batch is novel; None never expands.
        one_sided: only losses above the mean have a positive z-score; otherwise z is absolute.
        scan_order: `"sequential"` trains a new slot before the scan continues; `"joint"` scans all images of the task
            first, and trains the new slots of all sites together.
        start_layer: first layer with adapters; encoder layers count from 0, decoder layers follow.
        end_layer: last layer with adapters.
        expand_start: first layer that may get more slots; None: `start_layer`.
        expand_end: last layer that may get more slots; None: `end_layer`.
        routing: how adapters are mixed or chosen: `"learned"` by a router; `"rd"` by the descriptors;
            `"reconstruction"`: each image uses all slots of one task, the task whose slots reconstruct it best, and
            sites without a slot of that task are routed by descriptors.
        new_router_bias: initial bias of the router column of a later slot; -4 gives it almost no weight; None: random.
        reuse_finetune: in a task without expansion, train the existing adapters; otherwise nothing is trained.

    Raises:
        AnoframeError: a value is out of range, or two settings exclude each other.
    """

    adapter_bottleneck: int = 64
    adapter_dropout: float = 0.0
    adapter_scalar: float = 1.0
    position: str = "ffn"
    mode: str = "parallel"
    descriptor_dim: int = 64
    descriptor_relu: bool = False
    descriptor_buffer_size: int = 500
    descriptor_loss_weight: float = 0.1
    joint_loss: bool = False
    expansion_threshold: float | None = 3.0
    one_sided: bool = False
    scan_order: str = "sequential"
    start_layer: int = 0
    end_layer: int = 7
    expand_start: int | None = None
    expand_end: int | None = None
    routing: str = "learned"
    new_router_bias: float | None = None
    reuse_finetune: bool = False

    def __post_init__(self) -> None:
        choices = {"position": SUBLAYERS, "mode": MODES, "scan_order": SCAN_ORDERS, "routing": ROUTINGS}
        for key, allowed in choices.items():
            if getattr(self, key) not in allowed:
                raise AnoframeError(
                    f"model.sema.{key} must be one of {', '.join(allowed)}, got {getattr(self, key)!r}"  # type: ignore[arg-type]
                )
        minima = {"adapter_bottleneck": 1, "descriptor_dim": 1, "descriptor_loss_weight": 0}
        for key, least in {**minima, "descriptor_buffer_size": LEAST_RECORDS}.items():
            if getattr(self, key) < least:
                raise AnoframeError(f"model.sema.{key} must be at least {least}, got {getattr(self, key)}")
        if not 0 <= self.adapter_dropout < 1:
            raise AnoframeError(
                f"model.sema.adapter_dropout must be at least 0 and below 1, got {self.adapter_dropout}"
            )
        if self.routing != "learned" and self.new_router_bias is not None:
            raise AnoframeError(
                f"model.sema.new_router_bias needs the learned router, but model.sema.routing is {self.routing!r}: "
                "leave it None"
            )
        if self.routing == "reconstruction" and self.reuse_finetune:
            raise AnoframeError(
                "model.sema.reuse_finetune trains a mixture of slots, but model.sema.routing 'reconstruction' mixes "
                "none: set only one of them"
            )

    @property
    def threshold(self) -> float:
        """`expansion_threshold`, infinite for None."""
        return math.inf if self.expansion_threshold is None else self.expansion_threshold

    @property
    def expansion_layers(self) -> tuple[int, int]:
        """First and last layer that may get more slots."""
        first = self.start_layer if self.expand_start is None else self.expand_start
        last = self.end_layer if self.expand_end is None else self.expand_end
        return first, last

    def has_adapters(self, layer_id: int, kind: str) -> bool:
        """Whether a sub-layer has adapters."""
        return self.start_layer <= layer_id <= self.end_layer and kind in SUBLAYERS[self.position]

    def may_expand(self, layer_id: int) -> bool:
        """Whether the sites of a layer may get more slots."""
        first, last = self.expansion_layers
        return first <= layer_id <= last

    def record(self) -> dict[str, Any]:
        """The settings by their names in `results/continual.json`, with the layers that may expand filled in."""
        first, last = self.expansion_layers
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values |= {"expand_start": first, "expand_end": last}
        return {RECORD_NAMES.get(name, name): value for name, value in values.items()}
