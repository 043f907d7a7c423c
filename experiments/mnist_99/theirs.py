"""Trains LeNet-5 on MNIST in PyTorch and prints [step, accuracy] at every evaluation: theirs.py FOLDER RECIPE SEED."""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional


def read(file: Path, header: int) -> torch.Tensor:
    """The data of an idx file as uint8.

    Args:
      header: the number of bytes before the data.
    """
    return torch.from_numpy(np.frombuffer(gzip.open(file).read(), np.uint8, offset=header).copy())


def split(folder: Path, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    images = read(folder / f"{name}-images-idx3-ubyte.gz", 16).view(-1, 1, 28, 28)
    return images, read(folder / f"{name}-labels-idx1-ubyte.gz", 8).long()


def normalise(images: torch.Tensor) -> torch.Tensor:
    return (images.float() / 255 - 0.1307) / 0.3081


def rate(step: int, num_steps: int, warmup_steps: int) -> float:
    """The learning rate as a fraction of its maximum: a linear rise, then a linear fall."""
    return step / warmup_steps if step < warmup_steps else 1 - (step - warmup_steps) / (num_steps - warmup_steps)


def initialise(layer: nn.Module) -> None:
    """Initial parameters as ours: normal with variance 1 / fan-in, truncated at two standard deviations; biases 0."""
    if isinstance(layer, (nn.Conv2d, nn.Linear)):
        std = layer.weight[0].numel() ** -0.5 / 0.8796  # of the normal before truncation
        nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
        nn.init.zeros_(layer.bias)


def main(folder: Path, recipe: dict, seed: int) -> None:
    torch.manual_seed(seed)
    images, labels = split(folder, "train")
    test_images, test_labels = split(folder, "t10k")
    net = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    net.apply(initialise)
    optimizer = torch.optim.SGD(net.parameters(), recipe["learning_rate"], momentum=0.9)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: rate(step, recipe["num_steps"], recipe["warmup_steps"])
    )
    size = recipe["batch_size"]
    order = torch.cat([torch.randperm(len(images)) for _ in range(recipe["num_steps"] * size // len(images) + 1)])
    for step in range(recipe["num_steps"]):
        indices = order[step * size : (step + 1) * size]
        loss = functional.cross_entropy(net(normalise(images[indices])), labels[indices])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % recipe["eval_every"] == 0:
            with torch.no_grad():
                pairs = zip(test_images.split(1000), test_labels.split(1000), strict=True)
                correct = sum((net(normalise(x)).argmax(1) == y).sum().item() for x, y in pairs)
            print(json.dumps([step + 1, correct / len(test_labels)]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), int(sys.argv[3]))
