"""What is trained: the data of a task, the model for them, its loss and its score.

task = Classification(c) or Language(c)     c: the configuration of the run
task.train, task.held_out, task.test        batches; held_out is None where nothing is held out
task.epoch, task.steps                      optimizer steps of an epoch, and of the run
task.model(c), task.loss(model, batch), task.score(model, batches)
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import data, nn
from minigrad.data import DataLoader, TensorDataset, TextWindows
from minigrad.nn import functional as F

from .cnn import ResNet9, SmallCNN
from .configuration import Config
from .mlp import MLP
from .transformer import GPT, GPTConfig


class Classification:
    """Images and labels: the loss is cross-entropy, the score accuracy, higher is better."""

    unit, better = "test accuracy", max

    def __init__(self, c: Config):
        (images, labels), (test, test_labels) = (data.load(c.data, split) for split in ("train", "test"))
        largest = float(images.max())
        self.channels, self.size = (1 if images.ndim == 3 else images.shape[1]), images.shape[-1]

        def loader(x: Any, y: Any, size: int, **options: Any) -> DataLoader:
            x = x.reshape(len(x), self.channels, self.size, self.size)
            if "transform" not in options:  # else it stays uint8 until it was shifted and mirrored
                x = x / np.float32(largest)
            dataset = TensorDataset(mg.asarray(x, copy=True), mg.asarray(y, copy=True))
            return DataLoader(dataset, size, device=c.device, **options)

        order = mg.random.host(None).permutation(len(images))
        held_out, rest = np.split(order, [int(len(order) * c.validation)])
        options: dict[str, Any] = {}
        if c.augment:
            mirror = data.RandomHorizontalFlip(0.0 if c.data in ("digits", "mnist") else 0.5)
            shift = data.RandomCrop(self.size, padding=self.size // 14)
            change = data.Compose([shift, mirror, data.Normalize(0.0, largest / 255)])
            options = dict(transform=change, prefetch=2)
        self.train = loader(images[rest], labels[rest], c.batch_size, shuffle=True, **options)
        self.held_out = loader(images[held_out], labels[held_out], 500) if len(held_out) else None
        self.test = loader(test, test_labels, 500)
        self.sizes = f"{len(rest):,} training, {len(held_out):,} held-out and {len(test):,} test images"
        self.epoch = -(-len(self.train) // c.accumulate)  # steps
        self.steps = max(round(c.epochs * self.epoch), 1)

    def model(self, c: Config) -> nn.Module:
        if c.model == "mlp":
            inputs = self.channels * self.size**2
            return MLP([inputs, 64 if inputs == 64 else 128, 10])
        return ResNet9() if c.data == "cifar10" else SmallCNN(self.channels, self.size)

    def loss(self, model: nn.Module, batch: Any, reduction: str = "mean") -> mg.Tensor:
        return F.cross_entropy(self.logits(model, batch), batch[1], reduction=reduction)

    def logits(self, model: nn.Module, batch: Any) -> mg.Tensor:
        return model(batch[0])  # (B, 10)

    def score(self, model: nn.Module, batches: DataLoader) -> float:
        hits = [(model(images).argmax(1) == labels).sum() for images, labels in batches]
        return float(mg.stack(hits).sum()) / batches.examples()

    def show(self, score: float) -> str:
        return f"{100 * score:.2f} %"

    def about(self, model: nn.Module) -> dict[str, Any]:
        return {}

    def epilogue(self, model: nn.Module) -> str:
        return ""


class Language:
    """A text, a character at a time: the loss and the score are nats a character, lower is better."""

    unit, better, context = "validation loss", min, 64

    def __init__(self, c: Config):
        text, held_out = (data.load(c.data, split) for split in ("train", "validation"))
        self.tokenizer, self.device = data.CharTokenizer(text + held_out), c.device
        tokens, unseen = self.tokenizer.encode(text), self.tokenizer.encode(held_out)
        self.train = TextWindows(tokens, self.context, c.batch_size, shuffle=True, device=c.device)
        self.held_out = self.test = TextWindows(unseen, self.context, 64, device=c.device)
        self.sizes = f"{len(text):,} training and {len(held_out):,} validation characters"
        self.epoch = -(-len(self.train) // c.accumulate)
        self.steps = max(round(c.epochs * 1000), 1)

    def model(self, c: Config) -> nn.Module:
        return GPT(GPTConfig(self.tokenizer.vocab_size, self.context))

    def loss(self, model: nn.Module, batch: Any, reduction: str = "mean") -> mg.Tensor:
        return F.cross_entropy(self.logits(model, batch), batch[1].flatten(), reduction=reduction)

    def logits(self, model: nn.Module, batch: Any) -> mg.Tensor:
        return model(batch[0]).flatten(0, 1)  # (B T, vocab)

    def score(self, model: nn.Module, batches: TextWindows) -> float:
        total = [self.loss(model, batch, "sum") for batch in batches]
        return float(mg.stack(total).sum()) / (len(batches.tokens) - 1)

    def show(self, score: float) -> str:
        return f"{score:.3f} nats a character"

    def about(self, model: Any) -> dict[str, Any]:
        """What makes the model again: its sizes and its alphabet."""
        return dict(tokenizer=self.tokenizer.to_json(), gpt=dataclasses.asdict(model.config))

    def epilogue(self, model: Any) -> str:
        start = mg.from_numpy(self.tokenizer.encode("\n")).to(self.device).unsqueeze(0)
        return self.tokenizer.decode(model.generate(start, 400, temperature=0.8, top_k=40)[0].cpu())
