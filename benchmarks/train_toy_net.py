"""Train the conv net of the ``toy`` backbone on the attributes of a toy set that no run ever sees.

    python benchmarks/train_toy_net.py

4,000 scenes of dataset seed 1000 (the dataset itself is seed 0) with one label per attribute: land cover, line,
heading, class, colour, number and place of both groups. The net sees labels, not captions. Prints the accuracy on
1,000 further scenes of seed 1001 and writes rsbench/backbones/toy_net.safetensors (fp16, under 1 MB).
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from rsbench.backbones.pixels import HALF, as_tensor, prepare
from rsbench.backbones.toy_net import WIDTH, ToyNet
from rsbench.data.toy.make import make_toy
from rsbench.data.toy.scene import ATTRIBUTES

SEED, EPOCHS, BATCH, LR = 1000, 16, 64, 3e-3
OUT = Path(__file__).parents[1] / "rsbench" / "backbones" / "toy_net.safetensors"


def labelled(seed: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images ``[n, 3, 48, 48]`` and attribute labels ``[n, A]``."""
    made = make_toy(seed, count)
    return prepare(as_tensor(made.images), 48, *HALF), torch.tensor([s.attributes() for s in made.scenes])


def heads_loss(heads: nn.ModuleList, pooled: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Sum of cross entropies over attributes."""
    return torch.stack([functional.cross_entropy(h(pooled), labels[:, i]) for i, h in enumerate(heads)]).sum()


def main() -> None:
    """Train, measure, write."""
    torch.manual_seed(SEED)
    images, labels = labelled(SEED, 4000)
    net, heads = ToyNet(), nn.ModuleList(nn.Linear(WIDTH, n) for n in ATTRIBUTES.values())
    parameters = [*net.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LR, weight_decay=1e-2)
    steps = EPOCHS * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=steps)
    for epoch in range(EPOCHS):
        total = 0.0
        for rows in torch.randperm(len(images))[: len(images) // BATCH * BATCH].split(BATCH):
            loss = heads_loss(heads, net(images[rows]).mean(dim=(2, 3)), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        print(f"epoch {epoch + 1}/{EPOCHS}: loss {total / (len(images) // BATCH):.3f}", flush=True)

    images, labels = labelled(SEED + 1, 1000)
    net.eval()
    with torch.inference_mode():
        pooled = torch.cat([net(block).mean(dim=(2, 3)) for block in images.split(256)])
        for i, (name, head) in enumerate(zip(ATTRIBUTES, heads, strict=True)):
            print(f"{name}: {100 * float((head(pooled).argmax(1) == labels[:, i]).float().mean()):.1f} %")
    OUT.parent.mkdir(exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in net.state_dict().items()}, OUT)
    print(f"{OUT.name}: {OUT.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
