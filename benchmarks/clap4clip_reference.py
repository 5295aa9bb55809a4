"""Compare CLAP4CLIP with its public code: the same weights, images and noise in both, and the differences.

    git clone https://github.com/srvCodes/clap4clip
    python benchmarks/clap4clip_reference.py clap4clip

A small network with random weights takes CLIP's place, and the public code runs on a CPU in float32. For each option
two tasks are trained for one step of each phase, without dropout, whose masks differ. Compared are text features,
initial adapters, the attention, test logits, every loss, and all weights after each step; then the learning rates, and
the choice of exemplars. Where this implementation deviates on purpose, the public code is corrected in that point, and
the line says so. Exits with status 1 if a difference is above 1e-4 times the largest value; for weights after a step,
times the largest change. Cost: seconds.
"""

from __future__ import annotations

import argparse
import io
import sys
import types
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, ClassVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anoframe.models.class_incremental import losses
from anoframe.models.class_incremental.factory import build_classifier
from anoframe.models.class_incremental.noise import draw_noise
from anoframe.models.class_incremental.priors import kl_divergence
from anoframe.models.class_incremental.text import read_templates
from anoframe.models.class_incremental.vga import block_mask
from anoframe.models.components.exemplars import MemorySettings, select
from anoframe.models.learner import TaskData, TrainingBatch
from anoframe.training.warmup_cosine import WarmupCosine
from anoframe.types import Sample

TOLERANCE, SMALLEST = 1e-4, 1e-3  # relative to the largest value, but not below `SMALLEST`
WIDTH, SAMPLES, GLOBAL_SAMPLES, BATCH = 64, 5, 3, 12
TASKS = (("tabby_cat", "dog", "fox"), ("red_car", "ship"))
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # name -> settings here, arguments there
    "published settings": ({}, {}),
    "task tokens": ({"vga": {"task_tokens": True}}, {"expandable_tokens": True}),
    "without attention": ({"vga": {"enabled": False}}, {"use_vga": False}),
    "orthogonality": ({"loss": {"orthogonality": 5.0}}, {"ortho_loss": True}),
    "prior frozen": ({"posterior": {"prior": "frozen"}}, {"frozen_prior": True}),
    "prior np, its mask corrected": ({"posterior": {"prior": "np", "context": 1.0}}, {"use_np_prior": True}),
    "hierarchical, KL summed as there": (
        {"posterior": {"hierarchical": True}, "loss": {"distillation": 0.3}},
        {"hierarchical": True, "distill": True},
    ),
}
Differences = Iterator[tuple[str, float, float]]  # name, largest difference, largest value


class SmallCLIP(nn.Module):
    """Image and text towers with the names that the public code reads; a text is a sequence of word numbers."""

    current: ClassVar[Any] = None  # what the public code loads

    def __init__(self) -> None:
        super().__init__()
        self.visual = nn.Sequential()
        self.visual.add_module("conv1", nn.Conv2d(3, 16, 4, 4))
        self.visual.add_module("rest", nn.Sequential(nn.GELU(), nn.Flatten(), nn.Linear(256, WIDTH)))
        self.words = nn.Embedding(997, WIDTH)
        self.transformer = nn.TransformerEncoderLayer(WIDTH, 4, 128, 0.0, batch_first=True)
        self.positional_embedding = nn.Parameter(0.1 * torch.randn(12, WIDTH))
        self.ln_final = nn.LayerNorm(WIDTH)
        self.text_projection = nn.Parameter(torch.randn(WIDTH, WIDTH) / WIDTH**0.5)
        self.logit_scale = nn.Parameter(torch.tensor(100.0).log())
        self.has_text, self.dtype = True, torch.float32

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        states = self.transformer(self.words(tokens) + self.positional_embedding)
        return self.ln_final(states[:, 0]) @ self.text_projection

    def encode_text(self, texts: Any) -> Tensor:
        """Encode token numbers as the public code asks for it; or texts, as unit vectors."""
        if isinstance(texts, Tensor):
            return self.encode_tokens(texts)
        return F.normalize(self.encode_tokens(tokenize(texts)), dim=-1)


def tokenize(texts: Sequence[str]) -> Tensor:
    numbers = [[sum(map(ord, word)) % 996 + 1 for word in text.split()] for text in texts]
    return torch.tensor([row + [0] * (12 - len(row)) for row in numbers])


def load_public_code(folder: Path) -> tuple[Any, Any, Any]:
    """Import the classifier, its utilities and the selectors, with CLIP and GPU calls replaced."""
    sys.path.insert(0, str(folder))
    stand_ins: dict[str, dict[str, Any]] = {
        "clip": {},
        "clip.clip": {"load": lambda *a, **k: (SmallCLIP.current, None), "tokenize": tokenize},
        "clip.simple_tokenizer": {"SimpleTokenizer": lambda: None},
        "classifier.evaluator": {"Evaluator": type("Evaluator", (), {"__init__": lambda self, args: None})},
        "matplotlib": {},
        "matplotlib.pyplot": {},
    }
    for name, values in stand_ins.items():
        if name.startswith("matplotlib") and name in sys.modules:
            continue
        module = types.ModuleType(name)
        vars(module).update(values)
        sys.modules[name] = module
    sys.modules["matplotlib"].pyplot = sys.modules["matplotlib.pyplot"]  # type: ignore[attr-defined]
    nn.Module.cuda = Tensor.cuda = lambda self, *a, **k: self  # type: ignore[method-assign,assignment]
    from classifier import continual_clip_variational, utils  # type: ignore[import-not-found]
    from dataset import exemplars_selection  # type: ignore[import-not-found]

    continual_clip_variational.get_context_indices = lambda count, *a, **k: torch.arange(count)
    return continual_clip_variational, utils, exemplars_selection


def arguments(**changes: Any) -> Namespace:
    names = (
        "hierarchical expandable_tokens expandable_prompt use_np_prior frozen_prior distill ortho_loss compute_ram "
        "get_interclass_dist get_adapter_distances"
    )
    values = dict.fromkeys(names.split(), False)
    values |= {"use_vga": True, "expandable_adapter": True, "lasp": True, "variational": True}
    numbers = {"beta": 15, "alpha": 1.0, "lr": 0.001, "wd": 0.0, "epochs": 5, "finetune_epochs": 2, "context_size": 1.0}
    sizes = {"train_batch": 32, "forward_times": SAMPLES, "forward_times_global": GLOBAL_SAMPLES, "sess": 0}
    return Namespace(**{**values, **numbers, **sizes, "default_gpu": 0, "ckpt_path": "", "gpus": [], **changes})


def copied_state(public: Any, ours: nn.Module) -> dict[str, Tensor]:
    """Return the weights of the public code by the names of `ClapNetwork`."""
    state: dict[str, Tensor] = {}
    attentions = (("self_attention", "self_attn"), ("cross_attention", "multihead_attn"))
    layers = (("expand", "linear1"), ("reduce", "linear2"), *((f"norm{i}", f"norm{i}") for i in (1, 2, 3)))
    if public.vga is not None:
        layer = public.vga.layers[0]
        for mine, theirs in attentions:
            attention = getattr(layer, theirs)
            for kind in ("weight", "bias"):
                parts = getattr(attention, f"in_proj_{kind}").chunk(3)
                state |= {f"vga.{mine}.{n}.{kind}": p for n, p in zip(("query", "key", "value"), parts, strict=True)}
                state[f"vga.{mine}.out.{kind}"] = getattr(attention.out_proj, kind)
        for mine, theirs in layers:
            state |= {f"vga.{mine}.{kind}": getattr(getattr(layer, theirs), kind) for kind in ("weight", "bias")}
    for part in ("mu", "sigma"):
        for number, adapter in enumerate(getattr(public, f"{part}_adapters")):
            state |= {f"adapters.{number}.{part}.linear.{k}": getattr(adapter.fc[0], k) for k in ("weight", "bias")}
        if (adapter := getattr(public, f"{part}_global_adapter", None)) is not None:
            state |= {f"global_adapter.{part}.linear.{k}": getattr(adapter.fc[0], k) for k in ("weight", "bias")}
    for number, token in enumerate(public.task_tokens or ()):
        state[f"tokens.{number}"] = token[0]
    assert state.keys() == ours.state_dict().keys()
    return {name: value.detach().clone() for name, value in state.items()}


def difference(ours: Tensor, theirs: Tensor) -> tuple[float, float]:
    """Return the largest absolute difference, and the largest absolute value."""
    return float((ours - theirs).abs().max()), float(theirs.abs().max())


def step_difference(before: dict[str, Tensor], public: Any, learner: Any) -> tuple[float, float]:
    """Return the largest difference of a weight after a step, and the largest change of one."""
    theirs, ours = copied_state(public, learner.network), learner.network.state_dict()
    changes = [float((theirs[name] - before[name]).abs().max()) for name in theirs]
    return max(difference(ours[name], theirs[name])[0] for name in theirs), max(changes)


class Comparison:
    """Both implementations with the same weights, over two tasks."""

    def __init__(self, code: Any, settings: dict[str, Any], changes: dict[str, Any]):
        self.clip = SmallCLIP.current = SmallCLIP().requires_grad_(False).eval()
        self.args = arguments(**changes)
        self.public = code.ClClipVariational(self.args, use_float32=True)
        sizes = {"samples": SAMPLES, "global_samples": GLOBAL_SAMPLES}
        section = {
            **settings,
            "name": "clap4clip",
            "vga": {"dropout": 0.0, **settings.get("vga", {})},
            "posterior": {**sizes, **settings.get("posterior", {})},
            "memory": {"per_class": 0},
            "text": {"templates": "cifar"},
        }
        self.learner: Any = build_classifier(section, WIDTH, self.clip)
        self.kl_loss = losses.kl_loss

    def start(self, task: int) -> Differences:
        """Start a task in both and copy the weights; compares text features and the new adapter."""
        public, learner, self.args.sess = self.public, self.learner, task
        public.task_to_cls_num[task] = len(TASKS[task])
        public.current_class_names += list(TASKS[task])
        public.init_model(public.current_class_names, 10, list(read_templates("cifar")))
        if public.vga is not None:
            for module in public.vga.modules():
                module.dropout = 0.0 if isinstance(module, nn.MultiheadAttention) else getattr(module, "dropout", None)
                if isinstance(module, nn.Dropout):
                    module.p = 0.0
        count = sum(map(len, TASKS[: task + 1]))
        names = [name for group in TASKS[: task + 1] for name in group]
        self.images = torch.randn(BATCH, 3, 16, 16)
        self.labels = torch.arange(BATCH) % count
        samples = [Sample(Path(f"{i}.png"), names[label], "train") for i, label in enumerate(self.labels.tolist())]
        order = [i for i in range(BATCH) if samples[i].category in TASKS[task]]
        order += [i for i in range(BATCH) if i not in order]
        self.images, self.labels = self.images[order], self.labels[order]
        data = TaskData(tuple(samples[i] for i in order), sum(s.category in TASKS[task] for s in samples))
        learner.start_task(task, data)
        yield "text features q", *difference(learner.text_features(), public.model.frozen_text_features)
        theirs = copied_state(public, learner.network)
        for part in ("mu", "sigma"):
            name = f"adapters.{task}.{part}.linear.weight"
            yield f"initial {part}", *difference(learner.network.state_dict()[name], theirs[name])
        learner.network.load_state_dict(theirs)

    @torch.no_grad()
    def compare_outputs(self) -> Differences:
        """Compare the attention and the test logits of the batch."""
        public, learner = self.public, self.learner
        public.model.eval()
        learner.eval()
        text, images = learner.text_features(), learner.unit_features(self.clip.visual(self.images))
        if public.vga is not None and not learner.network.tokens:
            mask = block_mask(learner.counts)
            theirs = public.vga(text[None], images[None], tgt_mask=mask)[0]
            yield "attention", *difference(learner.network.vga(text, images, mask), theirs)
        torch.manual_seed(1)
        theirs, _ = public.model(self.images, self.labels, test=True, return_mean=False)
        torch.manual_seed(1)
        ours = learner._logits(images, learner.network(text, images, learner.counts, draw_noise))
        yield "logits [S, B, C]", *difference(ours, theirs)

    def step(self, is_balance: bool) -> Differences:
        """Take one step of a phase in both; compares the losses and all weights."""
        public, learner = self.public, self.learner
        if is_balance:
            public.unfreeze_for_finetuning()
            public.build_optimizer(10, public.lr / 10, finetune=True)
        before = copied_state(public, learner.network)
        public.scheduler.step(0)
        torch.manual_seed(2)
        output, (others, prior, _) = public.model(self.images, self.labels, finetuning=is_balance)
        entropy = F.cross_entropy(output.flatten(0, 1), self.labels.repeat(len(output)))
        public.optimizer.zero_grad()
        (entropy + others + prior).backward()
        public.optimizer.step()

        parameters = learner._trained_parameters(is_balance)
        learner.requires_grad_(False)
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        batch = TrainingBatch(self.clip.visual(self.images), learner._data.samples, torch.arange(BATCH))
        torch.manual_seed(2)
        values = dict(learner._losses(is_balance, batch))
        values.pop("accuracy")
        mine = values.pop("cross_entropy"), values.pop("kl_loss"), sum(values.values())
        optimizer = torch.optim.SGD(list(parameters.values()), public.optimizer.param_groups[0]["lr"])
        (mine[0] + mine[1] + mine[2]).backward()
        optimizer.step()
        optimizer.zero_grad()
        phase = "balance" if is_balance else "task"
        for name, ours, theirs in zip(
            ("cross-entropy", "KL", "language and options"), mine, (entropy, prior, others), strict=True
        ):
            yield f"{phase}: {name}", *difference(ours.detach(), theirs.detach())
        yield f"{phase}: weights after a step", *step_difference(before, public, learner)

    def finish(self) -> None:
        self.public.post_training(finalize=True)
        self.learner.finish_task()


def correct_public_code(code: Any) -> None:
    """Correct the public code where this implementation deviates on purpose."""
    original = code.CLIP.get_prior_dist

    def without_mask(self: Any, *a: Any, tgt_mask: Any = None, **k: Any) -> Any:
        return original(self, *a, **k)  # the mask of all classes does not fit the queries of one task

    code.CLIP.get_prior_dist = without_mask


def sum_over_classes(posterior: Any, prior: Any) -> Tensor:
    """KL as the public code reduces it: a mean over the first axis, which is that of samples if hierarchical."""
    return kl_divergence(posterior, prior).mean(0).sum()


def compare_option(code: Any, name: str) -> Differences:
    settings, changes = OPTIONS[name]
    torch.manual_seed(0)
    comparison = Comparison(code, settings, changes)
    losses.kl_loss = sum_over_classes if settings.get("posterior", {}).get("hierarchical") else comparison.kl_loss
    try:
        for task in range(len(TASKS)):
            for title, *values in (
                *comparison.start(task),
                *comparison.compare_outputs(),
                *comparison.step(is_balance=False),
                *(comparison.step(is_balance=True) if task else ()),
            ):
                yield f"{name}, task {task}: {title}", *values
            comparison.finish()
    finally:
        losses.kl_loss = comparison.kl_loss


def compare_schedule(utils: Any) -> Differences:
    for steps, warmup in ((100, 0.3), (37, 0.3), (14, 0.0)):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.0016)
        theirs = utils.build_cosine_scheduler(optimizer, 0.0016, steps, int(warmup * steps)).lrs
        ours = WarmupCosine(optimizer, steps, warmup, 0.001)
        rates = torch.tensor([0.0016 * ours.share(step) for step in range(steps)], dtype=torch.float64)
        yield f"learning rates of {steps} steps", *difference(rates, torch.from_numpy(theirs))


class _Outputs(nn.Module):
    """A model whose outputs are given; the selectors ask for means, or for all samples."""

    def __init__(self, logits: Tensor):
        super().__init__()
        self.logits = logits  # [S, N, C]

    def forward(self, rows: Tensor, test: bool = True, return_mean: bool = True) -> tuple[Tensor, None]:
        logits = self.logits[:, rows]
        return (logits.mean(0) if return_mean else logits.transpose(0, 1)), None  # correct: [image, sample, class]


def compare_selectors(selection: Any) -> Iterator[tuple[str, float, float]]:
    """Compare which images are chosen; the public code gets its logits in the layout that it expects.

    Entropy is that of the softmax of mean logits there and of the mean softmax here, so it gets a single sample.
    """
    logits = 3 * torch.randn(SAMPLES, 60, 4)
    labels = torch.arange(60) % 4
    loader = torch.utils.data.DataLoader
    torch.utils.data.DataLoader = lambda data, **k: loader(data, batch_size=k["batch_size"], sampler=k["sampler"])  # type: ignore[assignment,misc]
    for name, public in (
        ("energy", "Energy"),
        ("variance", "Variance"),
        ("entropy", "Entropy"),
        ("distance", "Distance"),
        ("herding", "Herding"),
    ):
        used = logits[:1] if name == "entropy" else logits
        args = Namespace(train_batch=16, forward_times=len(used), default_gpu=0)
        selector = getattr(selection, f"{public}ExemplarsSelector")(args)
        rows = [(torch.tensor(row), int(label), row) for row, label in enumerate(labels)]
        selector.set_dataset_and_transform(rows, None)
        chosen, _ = selector.select_indices(_Outputs(used), 5, None, (list(range(60)), labels.tolist()))
        settings = MemorySettings(per_class=5, selector=name)
        features = used.mean(0) if name == "herding" else torch.zeros(60, 4)
        ours = select(settings, features, used, labels, 4, torch.Generator())
        yield f"exemplars by {name}: others", float(len(set(ours) ^ set(map(int, chosen)))), 1.0
    torch.utils.data.DataLoader = loader  # type: ignore[misc]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="clone of srvCodes/clap4clip")
    parser.add_argument("--all", action="store_true", help="print every comparison, not the largest of each option")
    options = parser.parse_args()
    code, utils, selection = load_public_code(options.folder.resolve())
    correct_public_code(code)
    selection.tqdm = lambda batches, **k: batches
    groups: dict[str, list[tuple[str, float, float]]] = {}
    for name in OPTIONS:
        with redirect_stdout(io.StringIO()):  # lists of parameters
            groups[name] = list(compare_option(code, name))
    groups["learning rates"] = list(compare_schedule(utils))
    groups["exemplars"] = list(compare_selectors(selection))
    failures = 0
    for name, rows in groups.items():
        failures += sum(error > TOLERANCE * max(SMALLEST, size) for _, error, size in rows)
        if options.all:
            for title, error, size in rows:
                print(f"{title:<80} {error:9.2e} of {size:9.2e}")
        title, error, size = max(rows, key=lambda row: row[1] / max(SMALLEST, row[2]))
        print(f"{name:<42} {len(rows):3d} comparisons, largest difference {error:9.2e} of {size:9.2e} ({title})")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
