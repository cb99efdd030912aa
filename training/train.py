"""Train the models that come with vaccel: python -m training.train [TASK …] [--out FOLDER].

Some minutes each on one core. tests/inference/test_accuracy.py says how good they must be; the
descriptions beside the models (TASK.vaccel.json) say how pictures are prepared for them.
Needs torch and onnx.
"""

from __future__ import annotations

import argparse
import json
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from training import losses, networks
from training.pictures import JOINTS, SHAPES, TASKS

MODELS = Path(__file__).parents[1] / "src" / "vaccel" / "data" / "models"


@dataclass(frozen=True)
class Recipe:
    network: Callable[[], nn.Module]
    loss: Callable[..., Tensor]
    output: str
    """The name of the model's output."""
    pictures: int
    epochs: int
    rate: float
    """The highest learning rate."""
    seed: int
    batch: int = 32


RECIPES = {
    "classify": Recipe(
        lambda: networks.Classifier(len(SHAPES)), losses.classify, "logits", 6000, 25, 6e-3, 1, 64
    ),
    "segment": Recipe(
        lambda: networks.Segmenter(1 + len(SHAPES)), losses.segment, "logits", 3000, 25, 8e-3, 2
    ),
    "detect": Recipe(
        lambda: networks.Detector(len(SHAPES), 96), losses.detect, "output0", 3000, 30, 6e-3, 3
    ),
    "pose": Recipe(
        lambda: networks.PoseEstimator(len(JOINTS)), losses.pose, "heatmaps", 4000, 24, 8e-3, 4
    ),
    "depth": Recipe(networks.DepthEstimator, losses.depth, "inverse_depth", 3000, 25, 8e-3, 5),
}


def train(task: str, recipe: Recipe) -> nn.Module:
    torch.manual_seed(0)
    random.seed(0)
    rng = np.random.default_rng(recipe.seed)
    drawn = [TASKS[task].make(rng) for _ in range(recipe.pictures)]
    pixels = torch.from_numpy(np.stack([one.pixels for one in drawn])).permute(0, 3, 1, 2)
    targets = losses.TARGETS[task](drawn)
    network = recipe.network()
    steps_each = recipe.pictures // recipe.batch
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.rate, total_steps=recipe.epochs * steps_each, pct_start=0.2
    )
    network.train()
    for epoch in range(recipe.epochs):
        sums = 0.0
        # In another order each time; the rest that is no whole batch waits for the next.
        batches = torch.randperm(recipe.pictures)[: steps_each * recipe.batch]
        for batch in batches.reshape(steps_each, recipe.batch):
            loss = recipe.loss(network, pixels[batch].float() / 255, *(t[batch] for t in targets))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            sums += loss.item()
        print(f"{task}: epoch {epoch + 1} of {recipe.epochs}: loss {sums / steps_each:.4f}")
    return network.eval()


def export(task: str, network: nn.Module, output: str, path: Path) -> None:
    """An ONNX file that says what it is for; its batches may have any size."""
    if task == "pose":
        network = nn.Sequential(network, nn.Sigmoid())
    size = TASKS[task].size
    with warnings.catch_warnings():
        # The exporter that needs no further package says that there is a newer one.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            network.eval(),
            (torch.rand(1, 3, size, size),),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["images"],
            output_names=[output],
            dynamic_axes={"images": {0: "batch"}, output: {0: "batch"}},
        )
    model = onnx.load(str(path))
    entries = {"task": task, "names": json.dumps(TASKS[task].names)}
    for key, value in entries.items():
        if value != "[]":
            model.metadata_props.add(key=key, value=value)
    onnx.save(model, str(path))
    print(f"{task}: {path}, {path.stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(RECIPES)}: all")
    parser.add_argument("--out", type=Path, default=MODELS, help="folder for TASK.onnx")
    parser.add_argument("--epochs", type=int, help="times through all pictures")
    parser.add_argument("--pictures", type=int, help="how many are drawn")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    unknown = [task for task in args.tasks if task not in RECIPES]
    if unknown:
        parser.error(f"expected tasks of {', '.join(RECIPES)}, found {unknown[0]}")
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    for task in args.tasks or RECIPES:
        recipe = RECIPES[task]
        changes = {"epochs": args.epochs, "pictures": args.pictures}
        given = {key: value for key, value in changes.items() if value}
        recipe = Recipe(**{**recipe.__dict__, **given})
        export(task, train(task, recipe), recipe.output, args.out / f"{task}.onnx")


if __name__ == "__main__":
    main()
