"""SEMA-UniAD: UniAD that learns one task after another, by adapters that multiply where features look like none known.

The first task trains UniAD and one slot at each site (`adapters.py`); then both are frozen. A later
task is scanned first, in eval mode, site by site: where a batch of its images is strange to all slots of a site,
the site gets one more, which is trained alone, and the scan goes on. A task in which nothing is strange trains nothing.
No image of an earlier task is seen again, and no task is named at a test.

SEMA (Wang et al., CVPR 2025) was made for classification by a vision transformer; a document of this project put it
into UniAD. What each of the three does differently, and what is a choice of this project: `docs/sema_uniad.md`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from anoframe.errors import AnoframeError
from anoframe.models.base import ContinualDetector, Features, Observation, Phase, TrainingBatch
from anoframe.models.sema_uniad.adapters import (
    LEAST_RECORDS,
    ROUTINGS,
    ExpandingAdapter,
    SlotSettings,
    is_strange,
    watching,
)
from anoframe.models.uniad.model import UniAD
from anoframe.types import Sample

KINDS = {"ffn": ("ffn",), "attn": ("attn", "self", "cross"), "both": ("attn", "self", "cross", "ffn")}
MODES = ("parallel", "sequential")
SCAN_ORDERS = ("sequential", "joint")
TOGETHER = 128  # images that are judged together in a scan; a pass may end in a smaller batch


@dataclass(frozen=True)
class Sema:
    """The settings of self-expansion, by the names that results have; see :class:`SemaUniAD`."""

    adapter_bottleneck: int
    adapter_dropout: float
    adapter_scalar: float
    sema_position: str
    sema_mode: str
    rd_dim: int
    rd_relu: bool
    rd_buffer_size: int
    rd_loss_weight: float
    joint_loss: bool
    expansion_threshold: float | None
    one_sided: bool
    scan_order: str
    sema_start_layer: int
    sema_end_layer: int
    expand_start: int
    expand_end: int
    routing: str
    new_router_bias: float | None
    reuse_finetune: bool

    def __post_init__(self) -> None:
        for key, known in (
            ("sema_position", KINDS),
            ("sema_mode", MODES),
            ("scan_order", SCAN_ORDERS),
            ("routing", ROUTINGS),
        ):
            if getattr(self, key) not in known:
                raise AnoframeError(f"model.{key} is one of {', '.join(known)}, got {getattr(self, key)!r}")
        for key, least in (("adapter_bottleneck", 1), ("rd_dim", 1), ("rd_buffer_size", 3), ("rd_loss_weight", 0)):
            if getattr(self, key) < least:
                raise AnoframeError(f"model.{key} is at least {least}, got {getattr(self, key)}")
        if self.routing != "learned" and self.new_router_bias is not None:
            raise AnoframeError(
                f"model.new_router_bias is for the learned router, and routing {self.routing!r} has none: leave it None"
            )
        if self.routing == "reconstruction" and self.reuse_finetune:
            raise AnoframeError(
                "model.reuse_finetune trains a mixture of slots, and routing 'reconstruction' has none: choose one"
            )
        if not 0 <= self.adapter_dropout < 1:
            raise AnoframeError(f"model.adapter_dropout lies between 0 and 1, got {self.adapter_dropout}")

    @property
    def threshold(self) -> float:
        return math.inf if self.expansion_threshold is None else self.expansion_threshold

    def slot(self, width: int) -> SlotSettings:
        return SlotSettings(
            width,
            bottleneck=self.adapter_bottleneck,
            dropout=self.adapter_dropout,
            scalar=self.adapter_scalar,
            descriptor_dim=self.rd_dim,
            descriptor_relu=self.rd_relu,
            records=self.rd_buffer_size,
            one_sided=self.one_sided,
            routing=self.routing,
            new_router_bias=self.new_router_bias,
        )


@dataclass
class Progress:
    """How far a stream of tasks has been learned, as JSON types; a checkpoint holds it as bytes.

    Attributes:
        task: that is learned, or was learned last; None before the first.
        images: of that task.
        finished: that task is.
        born: site -> the task in which each of its slots was born.
        steps: of that task, those done and those known to follow; see `SemaUniAD._step`.
        expansions: every slot that came, and why.
        scans: every batch that was judged.
    """

    born: list[list[int]]
    steps: list[dict[str, Any]]
    task: int | None = None
    images: int = 0
    finished: bool = False
    expansions: list[dict[str, Any]] = field(default_factory=list)
    scans: list[dict[str, Any]] = field(default_factory=list)

    def to_tensor(self) -> Tensor:
        """`[n]` uint8."""
        return torch.frombuffer(bytearray(json.dumps(asdict(self)).encode()), dtype=torch.uint8)

    @staticmethod
    def of_tensor(tensor: Tensor) -> Progress:
        try:
            return Progress(**json.loads(tensor.cpu().numpy().tobytes()))
        except (ValueError, TypeError) as error:
            raise AnoframeError(f"the checkpoint's progress is damaged ({error}); train again") from error


@dataclass(frozen=True)
class Place:
    """A site, and where it is."""

    layer_id: int
    kind: str
    site: ExpandingAdapter
    name: str  # of the site, in a checkpoint


class SemaUniAD(UniAD, ContinualDetector):
    """UniAD with self-expanding adapters.

    Args:
        backbone: as for :class:`UniAD`; so are all arguments up to `image_score`.
        adapter_bottleneck, adapter_dropout, adapter_scalar: of each adapter.
        sema_position: which sub-layers have a site: `"ffn"` the feed-forward parts (8 sites with 4 + 4 layers),
            `"attn"` the attentions (12), `"both"` (20).
        sema_mode: `"parallel"` sees a sub-layer's input and is added to its residual sum; `"sequential"` sees its
            output and is added to that. The decoder's first attention is always sequential: its input is a learned
            query, the same for all images.
        rd_dim, rd_relu: bottleneck of a descriptor, and whether it has a ReLU.
        rd_buffer_size: images that the statistics of a descriptor are of.
        rd_loss_weight: of the descriptors' loss where it is added to the reconstruction's.
        joint_loss: descriptors learn together with adapters, instead of after them.
        expansion_threshold: z above which a batch is strange; None never expands.
        one_sided: only losses above the mean are strange, not those below it.
        scan_order: `"sequential"` trains a slot before it looks further; `"joint"` looks through all of the task's
            images first, and trains the slots of all sites at which a batch was strange together.
        sema_start_layer, sema_end_layer: layers that have sites, both among them; the encoder's count from 0, the
            decoder's go on from there.
        expand_start, expand_end: layers that may get more slots; None: as those that have sites.
        routing: `"learned"`, `"rd"` by descriptors, or `"reconstruction"`: an image takes the slots of one task
            together, of that with which it is rebuilt best; a site that has none of that task goes by descriptors.
        new_router_bias: of a later slot's column of the router; -4 makes its birth nearly neutral; None: drawn.
        reuse_finetune: where a task brings no slot, train the adapters that there are; otherwise nothing.
        seed: draws new slots, the order of scans, and the images of statistics.
    """

    progress: Tensor
    least_images = LEAST_RECORDS  # a slot of fewer would find nothing strange, and so keep later tasks from expanding

    def __init__(
        self,
        backbone: nn.Module,
        image_size: int | Sequence[int] = 224,
        stride: int = 16,
        width: int = 256,
        heads: int = 8,
        hidden: int = 1024,
        encoder_layers: int = 4,
        decoder_layers: int = 4,
        dropout: float = 0.1,
        window: int = 7,
        mask_encoder: bool = True,
        mask_first: bool = True,
        mask_second: bool = True,
        position: str = "learned",
        jitter: Mapping[str, Any] | None = None,
        memory: Mapping[str, Any] | None = None,
        image_score: str = "max",
        adapter_bottleneck: int = 64,
        adapter_dropout: float = 0.0,
        adapter_scalar: float = 1.0,
        sema_position: str = "ffn",
        sema_mode: str = "parallel",
        rd_dim: int = 64,
        rd_relu: bool = False,
        rd_buffer_size: int = 500,
        rd_loss_weight: float = 0.1,
        joint_loss: bool = False,
        expansion_threshold: float | None = 3.0,
        one_sided: bool = False,
        scan_order: str = "sequential",
        sema_start_layer: int = 0,
        sema_end_layer: int = 7,
        expand_start: int | None = None,
        expand_end: int | None = None,
        routing: str = "learned",
        new_router_bias: float | None = None,
        reuse_finetune: bool = False,
        seed: int = 0,
    ):
        super().__init__(
            backbone,
            image_size=image_size,
            stride=stride,
            width=width,
            heads=heads,
            hidden=hidden,
            encoder_layers=encoder_layers,
            decoder_layers=decoder_layers,
            dropout=dropout,
            window=window,
            mask_encoder=mask_encoder,
            mask_first=mask_first,
            mask_second=mask_second,
            position=position,
            jitter=jitter,
            memory=memory,
            image_score=image_score,
        )
        self.seed = seed
        self.sema = Sema(
            adapter_bottleneck=adapter_bottleneck,
            adapter_dropout=adapter_dropout,
            adapter_scalar=adapter_scalar,
            sema_position=sema_position,
            sema_mode=sema_mode,
            rd_dim=rd_dim,
            rd_relu=rd_relu,
            rd_buffer_size=rd_buffer_size,
            rd_loss_weight=rd_loss_weight,
            joint_loss=joint_loss,
            expansion_threshold=expansion_threshold,
            one_sided=one_sided,
            scan_order=scan_order,
            sema_start_layer=sema_start_layer,
            sema_end_layer=sema_end_layer,
            expand_start=sema_start_layer if expand_start is None else expand_start,
            expand_end=sema_end_layer if expand_end is None else expand_end,
            routing=routing,
            new_router_bias=new_router_bias,
            reuse_finetune=reuse_finetune,
        )
        self.places = self._adapted(width)  # last: UniAD draws its weights first, and the zeros of adapters stay
        self._asked: tuple[int, int] | None = None
        self._progress = Progress([[0] for _ in self.places], self._first_steps())
        self.register_buffer("progress", self._progress.to_tensor())
        self._freeze()

    def _adapted(self, width: int) -> list[Place]:
        """Put a site with one slot at each place that the settings name."""
        sema, places = self.sema, []
        names = {id(module): name for name, module in self.named_modules()}
        for one in self.reconstruction.transformer.sites():
            if sema.sema_start_layer <= one.layer_id <= sema.sema_end_layer and one.kind in KINDS[sema.sema_position]:
                sequential = sema.sema_mode == "sequential" or one.kind == "self"
                one.residual.adapter = site = ExpandingAdapter(sema.slot(width), sequential)
                places.append(Place(one.layer_id, one.kind, site, f"{names[id(one.residual)]}.adapter"))
        if not places:
            layers = f"{sema.sema_start_layer} to {sema.sema_end_layer}"
            raise AnoframeError(f"no layer among {layers} has a place for adapters: see model.sema_start_layer")
        if not any(sema.expand_start <= place.layer_id <= sema.expand_end for place in places):
            layers = f"{sema.expand_start} to {sema.expand_end}"
            raise AnoframeError(f"no layer among {layers} has adapters that could multiply: see model.expand_start")
        return places

    # ------------------------------------------------------------------------------------------------ the stream

    def start_task(self, task: int, images: int) -> None:
        self._asked = (task, images)
        self._catch_up()

    def finish_task(self) -> None:
        self._asked = None
        self._progress.finished = True
        self._write()

    def load_learned_state(self, state: dict[str, Tensor]) -> None:
        """Put back what `learned_state` gave; sites get as many slots as they had then."""
        if "progress" in state:
            progress = Progress.of_tensor(state["progress"])
            if len(progress.born) != len(self.places):
                raise AnoframeError(
                    f"the checkpoint has adapters at {len(progress.born)} places and this model at {len(self.places)}: "
                    "model.sema_position, sema_start_layer and sema_end_layer are to be as they were"
                )
            for place, born in zip(self.places, progress.born, strict=True):
                place.site.resize(len(born))
            self._progress = progress
        super().load_learned_state(state)
        self._freeze()
        self._catch_up()

    def num_learned_values(self) -> int:
        """Parameters alone: what descriptors remember of their losses is more or less by the images of a task."""
        return sum(parameter.numel() for parameter in self.reconstruction.parameters())

    def growth(self) -> dict[str, Any]:
        layers = [
            {"layer_id": place.layer_id, "kind": place.kind, "num_adapters": len(place.site.slots)}
            for place in self.places
        ]
        stats = {
            "total_modules": len(layers),
            "total_adapters": sum(len(place.site.slots) for place in self.places),
            "adapters_per_layer": layers,
        }
        return {
            "adapter_stats": stats,
            "expansions": self._progress.expansions,
            "scans": self._progress.scans,
            "sema_config": asdict(self.sema),
        }

    def _catch_up(self) -> None:
        """Begin the task that was asked for, once what was learned before it is here; one that is begun goes on."""
        now = self._progress
        if self._asked is None or self._asked[0] != (0 if now.task is None else now.task + 1):
            return
        if now.task is not None:
            now.steps = [{"kind": "scan", "pass": 0, "batch": 0}]
            now.finished = False
        now.task, now.images = self._asked
        self._write()

    def _write(self) -> None:
        """Into the buffer that a checkpoint has; and what is not to be trained any more is frozen."""
        self.progress = self._progress.to_tensor().to(self.progress.device)
        self._freeze()

    # ------------------------------------------------------------------------------------------------ learning

    def phase_names(self) -> Sequence[str]:
        return ["reconstruction", "adapter", "descriptor"]  # a config has settings of all, used or not

    def training_stages(self) -> Sequence[Observation | Phase]:
        """Of task 0: UniAD with a slot a site, their descriptors, and their statistics.

        Of a later one: a scan; where it ends with new slots, these, their descriptors, their statistics, and the scan
        from where it was.

        Raises:
            AnoframeError: the task is not the one after that which was learned last.
        """
        now = self._progress
        if self._asked and self._asked[0] != now.task:
            learned = "none has been" if now.task is None else f"the last was task {now.task}"
            raise AnoframeError(f"task {self._asked[0]} cannot be learned now, {learned}: they come one after another")
        return [self._step(entry) for entry in now.steps]

    def _first_steps(self) -> list[dict[str, Any]]:
        return [{"kind": "reconstruction", "sites": self._all_sites()}, *self._after_adapters(self._all_sites())]

    def _after_adapters(self, sites: list[int]) -> list[dict[str, Any]]:
        kinds = ("statistics",) if self.sema.joint_loss else ("descriptor", "statistics")
        return [{"kind": kind, "sites": sites} for kind in kinds]

    def _all_sites(self) -> list[int]:
        return list(range(len(self.places)))

    def _step(self, entry: Mapping[str, Any]) -> Observation | Phase:
        """What an entry of `Progress.steps` stands for.

        A `scan` has the `pass` and the `batch` that it begins with. The others are of the newest slot of `sites`; an
        `adapter` that reuses is of all slots there.
        """
        kind = entry["kind"]
        if kind == "scan":
            rows = self._order(entry["pass"])[entry["batch"] * TOGETHER :]
            begin = partial(self._begin_scan, entry["batch"])
            return Observation("scan", begin, self._scan, self._conclude_scan, rows=rows, batch_size=TOGETHER)
        if kind == "statistics":
            begin, take, conclude = (
                partial(one, entry["sites"])
                for one in (self._begin_statistics, self._take_statistics, self._conclude_statistics)
            )
            return Observation("statistics", begin, take, conclude, batch_size=TOGETHER)
        loss = self._descriptor_loss if kind == "descriptor" else self._adapter_loss
        alone = [self.places[number] for number in entry["sites"]] if len(entry["sites"]) == 1 else []
        label = "".join(f"layer {place.layer_id} {place.kind}" for place in alone)
        return Phase(kind, self._trained(entry), partial(loss, entry["sites"]), label=label)

    def _trained(self, entry: Mapping[str, Any]) -> dict[str, nn.Parameter]:
        """What a phase changes, by the names of a checkpoint."""
        kind, reuse, found = entry["kind"], entry.get("reuse", False), {}
        if kind == "reconstruction":
            named = self.named_parameters()
            found = {name: one for name, one in named if name.startswith("recon") and ".adapter.slots." not in name}
        for place in (self.places[number] for number in entry["sites"]):
            count = len(place.site.slots)
            for number in range(count) if reuse else [count - 1]:
                for part in self._parts(kind, reuse, count):
                    prefix = f"{place.name}.slots.{number}.{part}"
                    found |= self.get_submodule(prefix).named_parameters(prefix=prefix)
        return found

    def _parts(self, kind: str, reuse: bool, count: int) -> list[str]:
        """Of a slot that a phase trains, at a site that has so many."""
        if kind == "descriptor":
            return ["descriptor"]
        routed = ["router"] if self.sema.routing == "learned" and count > 1 else []  # one column alone has no say
        described = ["descriptor"] if self.sema.joint_loss and not reuse else []
        return ["adapter", *routed, *described]

    def _adapter_loss(self, sites: Sequence[int], batch: TrainingBatch) -> dict[str, Tensor]:
        """UniAD's; with `joint_loss` that of the newest descriptors too, whose input gets no gradient."""
        with self._along(self._learning_paths()[-1]):
            if not self.sema.joint_loss:
                return self.losses(batch)
            with watching([place.site for place in self.places]) as seen:
                losses = self.losses(batch)
        return losses | {"descriptor": self.sema.rd_loss_weight * self._missed(sites, seen)}

    def _descriptor_loss(self, sites: Sequence[int], batch: TrainingBatch) -> dict[str, Tensor]:
        """Of the newest descriptors, on what the frozen network has at their sites."""
        return {"descriptor": self._missed(sites, self._token_means(batch.features))}

    def _missed(self, sites: Sequence[int], means: Mapping[int, Tensor]) -> Tensor:
        """Sum over sites of the mean loss of their newest descriptor."""
        return torch.stack([self.places[n].site.newest.descriptor.loss(means[n]).mean() for n in sites]).sum()

    @torch.no_grad()
    def _token_means(self, features: Tensor) -> dict[int, Tensor]:
        """Of the input of each site, `[B, d]`: in eval mode, without noise or dropout."""
        with self._evaluating():
            return self._rebuilt(features, self._learning_paths())[1]

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """In eval mode where that makes a difference: to switch many modules takes time."""
        mode, differs = self.training, self.reconstruction.jitter.training
        if differs:
            self.eval()
        try:
            yield
        finally:
            if differs:
                self.train(mode)

    # ------------------------------------------------------------------------------------------------ paths

    def reconstruct(self, features: Tensor) -> Tensor:
        """`f` to `f_hat`, `[B, C, h, w]` each; with `routing` reconstruction by the path that comes nearest to each."""
        paths = self._paths()
        return super().reconstruct(features) if len(paths) == 1 else self._rebuilt(features, paths)[0]

    def _distances(self, features: Tensor) -> Tensor:
        """As UniAD's, along the best path of each image; one path after another, because what sites take is the same
        for all threads."""
        found = []
        for path in self._paths():
            with self._along(path):
                found.append(super()._distances(features))
        return torch.stack(found)[_nearest(found)]

    def _paths(self) -> list[dict[int, int]]:
        """What images may take: place -> slot, for the slots of each task that has some. Empty: all are mixed."""
        if self.sema.routing != "reconstruction":
            return [{}]
        born = self._progress.born
        tasks = sorted({task for slots in born for task in slots})
        return [{n: slots.index(task) for n, slots in enumerate(born) if task in slots} for task in tasks]

    def _learning_paths(self) -> list[dict[int, int]]:
        """Those of the images of a task that is being learned: they take its own slots, once there are any."""
        now, paths = self._progress, self._paths()
        has_own = any(slots[-1] == now.task for slots in now.born)
        return paths[-1:] if has_own and not now.finished else paths

    @contextmanager
    def _along(self, path: Mapping[int, int]) -> Iterator[None]:
        """All images take these slots."""
        for number, slot in path.items():
            self.places[number].site.chosen = slot
        try:
            yield
        finally:
            for number in path:
                self.places[number].site.chosen = None

    def _rebuilt(self, features: Tensor, paths: Sequence[Mapping[int, int]]) -> tuple[Tensor, dict[int, Tensor]]:
        """By the best of some paths for each image: `f_hat`, and the token mean of the input of each site `[B, d]`."""
        found, means = [], []
        for path in paths:
            with self._along(path), watching([place.site for place in self.places]) as seen:
                found.append(super().reconstruct(features))
            means.append(seen)
        if len(paths) == 1:
            return found[0], means[0]
        nearest = _nearest([self.distance(features, one) for one in found])
        best = {number: torch.stack([one[number] for one in means])[nearest] for number in means[0]}
        return torch.stack(found)[nearest], best

    # ------------------------------------------------------------------------------------------------ scanning

    def strangeness(self, features: Tensor) -> list[Tensor]:
        """How strange images are to each slot, `[slots, B]` for each site, in the order of execution."""
        means = self._token_means(features)
        return [place.site.z(means[number]).detach() for number, place in enumerate(self.places)]

    def _order(self, number: int) -> list[int]:
        """Of the task's images in a pass."""
        order = np.random.default_rng((self.seed, 0, self._progress.task or 0, number))
        return [int(row) for row in order.permutation(self._progress.images)]

    def _begin_scan(self, batch: int, images: int) -> None:
        self._batch = batch
        self._found: list[int] = []
        self._seen: list[dict[str, Any]] = []
        self._reasons: list[dict[str, Any]] = []

    def _scan(self, features: Features, samples: Sequence[Sample]) -> bool:
        """Judge a batch; True ends the scan, because a site is to grow.

        The whole network runs before any site is judged, and then the first in the order of execution counts, as if it
        had been stopped there: no site sees anything of those after it.
        """
        judged = [z.mean(1) for z in self.strangeness(features)]
        where = {"task": self._progress.task, "pass": self._pass, "batch": self._batch}
        all_z = [[_short(z) for z in site.tolist()] for site in judged]
        self._seen.append({**where, "images": len(samples), "min_z": [min(z) for z in all_z], "all_z": all_z})
        strange = [n for n, z in enumerate(judged) if self._may_expand(n) and is_strange(z, self.sema.threshold)]
        sequential = self.sema.scan_order == "sequential"
        for number in strange[:1] if sequential else strange:
            place = self.places[number]
            reason = {"site": [place.layer_id, place.kind], "min_z": min(all_z[number]), "all_z": all_z[number]}
            self._found.append(number)
            self._reasons.append({**where, **reason})
        self._batch += 1
        return sequential and bool(strange)

    @property
    def _pass(self) -> int:
        """That the scan at the end of the known steps belongs to."""
        number: int = self._progress.steps[-1]["pass"]
        return number

    def _may_expand(self, number: int) -> bool:
        """Whether a site is in range, and has had no slot in this task yet."""
        inside = self.sema.expand_start <= self.places[number].layer_id <= self.sema.expand_end
        return inside and self._progress.born[number][-1] != self._progress.task and number not in self._found

    def _conclude_scan(self) -> None:
        """New slots where the scan found that they are wanted, and what comes next."""
        now, found = self._progress, sorted(self._found)
        now.scans += self._seen
        now.expansions += self._reasons
        for number in found:
            self._grow(number)
        for number in self._unsettled(found):
            self.places[number].site.newest.descriptor.record.clear()
        now.steps += self._next_steps(found)
        self._write()

    def _next_steps(self, found: list[int]) -> list[dict[str, Any]]:
        now, again = self._progress, {"kind": "scan", "pass": self._pass + 1, "batch": 0}
        if found:
            rest = {"kind": "scan", "pass": self._pass, "batch": self._batch}
            more, unsettled = self._batch * TOGETHER < now.images, self._unsettled(found)
            trained = unsettled if self.sema.scan_order == "joint" else found
            return [{"kind": "adapter", "sites": trained}, *self._after_adapters(unsettled), rest if more else again]
        grown = [one["pass"] for one in now.expansions if one["task"] == now.task]
        if self._pass in grown:
            return [again]
        if self.sema.reuse_finetune and not grown:
            return [{"kind": "adapter", "sites": self._all_sites(), "reuse": True}]
        return []

    def _unsettled(self, found: list[int]) -> list[int]:
        """Sites that have just grown, and those behind them that grew in this task before.

        What comes to these changes with the slots before them, and is strange to a descriptor that was trained and
        measured on what came until now: they get both anew, and where slots are trained together, adapters too.
        """
        task, born = self._progress.task, self._progress.born
        return [n for n in range(min(found), len(born)) if born[n][-1] == task] if found else []

    def _grow(self, number: int) -> None:
        """One slot more at a site: the same one, whatever was drawn before."""
        now = self._progress
        assert now.task is not None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.SeedSequence((self.seed, 1, now.task, number)).generate_state(1)[0]))
            self.places[number].site.resize(len(now.born[number]) + 1)
        now.born[number].append(now.task)

    # ------------------------------------------------------------------------------------------------ statistics

    def _begin_statistics(self, sites: Sequence[int], images: int) -> None:
        """Choose the images: those that come last in a shuffled pass, or the last categories alone would be known."""
        order = np.random.default_rng((self.seed, 2, self._progress.task or 0)).permutation(images)
        self._wanted = torch.zeros(images, dtype=torch.bool)
        self._wanted[order[-self.sema.rd_buffer_size :]] = True
        self._shown = 0
        for number in sites:
            self.places[number].site.newest.descriptor.record.clear()

    def _take_statistics(self, sites: Sequence[int], features: Features, samples: Sequence[Sample]) -> None:
        wanted = self._wanted[self._shown : self._shown + len(samples)]
        self._shown += len(samples)
        if not wanted.any():
            return
        means = self._token_means(features[wanted.to(features.device)])
        for number in sites:
            descriptor = self.places[number].site.newest.descriptor
            descriptor.record.push(descriptor.loss(means[number]))

    def _conclude_statistics(self, sites: Sequence[int]) -> None:
        for number in sites:
            self.places[number].site.newest.descriptor.record.freeze()

    # ------------------------------------------------------------------------------------------------ freezing

    def train(self, mode: bool = True) -> SemaUniAD:
        """Train mode for what is trained; what wants no gradient stays in eval mode.

        Features are noised while the trunk or an adapter is trained, and not for descriptors.
        """
        super().train(mode)
        if mode:
            noised = self.reconstruction.inward.weight.requires_grad  # of the trunk all or nothing is trained
            self.reconstruction.train(noised)
            for slot in (slot for place in self.places for slot in place.site.all_slots):
                for part in slot.children():
                    part.train(any(parameter.requires_grad for parameter in part.parameters()))
                noised |= slot.adapter.training
            self.reconstruction.jitter.train(noised)
        return self

    def _freeze(self) -> None:
        """Only what the phases to come change wants gradients."""
        steps = [] if self._progress.finished else self._progress.steps
        newest = [entry for entry in steps if entry["kind"] in ("reconstruction", "adapter", "descriptor")]
        last = [entry for entry in newest if entry["sites"][0] == newest[-1]["sites"][0]]
        wanted = {id(parameter) for entry in last for parameter in self._trained(entry).values()}
        for parameter in self.reconstruction.parameters():
            parameter.requires_grad_(id(parameter) in wanted)


def _nearest(distances: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Where each image is in what is stacked of several paths: in that which misses least of it.

    Args:
        distances: along each path, `[B, h, w]`; the mean of their squares decides, and of equals the oldest path.
    """
    missed = torch.stack([one.square().flatten(1).mean(1) for one in distances])
    return missed.argmin(0), torch.arange(missed.shape[1], device=missed.device)


def _short(z: float) -> float:
    """Six digits of it: there are many."""
    return float(f"{z:.6g}")
