"""Scalable Cross-Entropy beyond recommendation: a small language model with a large vocabulary.

    python examples/language_model.py [--steps 40] [--vocabulary 50000] [--bucket_size_y 512]

A causal transformer learns to predict the next word of Python's own source files: by full cross-entropy over
the whole vocabulary, by ScalableCrossEntropyLoss for as many steps, and by ScalableCrossEntropyLoss for as
many seconds. The model and the batches are the same. Each runs in a process of its own, so that its peak
memory is its own. The loss after training is exact for all: full cross-entropy on text that none has seen.

A language model is judged by its probabilities, for which words that score low count too: the softmax of a
bucket is completed by the words of the text at hand, one by one, and by a sample of all others.
"""

import argparse
import multiprocessing
import os
import re
import resource
import statistics
import sys
import sysconfig
import tempfile
import time
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from recbole_sce import Histories, ScalableCrossEntropyLoss
from torch import nn
from torch.nn import functional as F


def read_words(vocabulary: int) -> np.ndarray:
    """Number the words of source files until there are ``vocabulary`` different ones."""
    numbers: dict[str, int] = {}
    words: list[int] = []
    folders = (Path(sysconfig.get_path("stdlib")), Path(torch.__file__).parent)
    for path in chain.from_iterable(sorted(folder.rglob("*.py")) for folder in folders):
        if "site-packages" in path.parts and folders[1] not in path.parents:
            continue
        for word in re.findall(r"\w+|[^\w\s]", path.read_text(encoding="utf-8", errors="ignore")):
            words.append(numbers.setdefault(word, len(numbers)))
            if len(numbers) == vocabulary:
                return np.array(words)
    sys.exit(f"only {len(numbers):,} different words found: ask for a smaller --vocabulary")


class LanguageModel(nn.Module):
    """Causal self-attention; hidden states are scored against the table of word embeddings."""

    def __init__(self, vocabulary: int, length: int, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.zeros(length, width))
        layer = nn.TransformerEncoderLayer(
            width, nhead=2, dim_feedforward=4 * width, dropout=0, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers=2)
        nn.init.normal_(self.words.weight, std=0.1)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(text.size(1))
        return self.encoder(self.words(text) + self.positions, mask=mask, is_causal=True)


def exact_loss(model: LanguageModel, windows: torch.Tensor) -> float:
    """Full cross-entropy in nats a word, a few windows at a time."""
    model.eval()
    total = 0.0
    with torch.no_grad():
        for window in windows.split(4):
            logits = model(window[:, :-1]).flatten(0, 1) @ model.words.weight.T
            total += F.cross_entropy(logits, window[:, 1:].flatten(), reduction="sum").item()
    return total / windows[:, 1:].numel()


def full_cross_entropy(hidden: torch.Tensor, table: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(hidden @ table.T, targets)


def peak_mib() -> float:
    # ru_maxrss counts KiB on Linux, bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def train(loss: str, limit: float, words_file: str, options: argparse.Namespace, results) -> None:
    """Train a model for ``options.steps`` or, if not 0, ``limit`` seconds; put its row into ``results``."""
    words = torch.from_numpy(np.load(words_file))
    windows = words[: len(words) // (options.length + 1) * (options.length + 1)].view(-1, options.length + 1)
    held_out, training = windows[::50][:100], windows[torch.arange(len(windows)) % 50 != 0]
    torch.manual_seed(0)
    model = LanguageModel(options.vocabulary, options.length, options.width)
    loss_fn = full_cross_entropy
    if loss == "SCE":  # every row of the table is a word: no padding row to leave out
        loss_fn = ScalableCrossEntropyLoss(
            bucket_size_y=options.bucket_size_y, complete_softmax=True, exclude_items=()
        )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    batches = torch.Generator().manual_seed(0)
    before, seconds = peak_mib(), []
    while sum(seconds) < limit if limit else len(seconds) < options.steps:
        batch = training[torch.randint(len(training), (options.batch,), generator=batches)]
        started = time.perf_counter()
        hidden = model(batch[:, :-1]).flatten(0, 1)  # (batch * length, width)
        given = {}
        if loss == "SCE":  # which window each state is of
            given["histories"] = Histories(batch, torch.arange(len(hidden)) // options.length)
        value = loss_fn(hidden, model.words.weight, batch[:, 1:].flatten(), **given)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - started)
    memory = peak_mib() - before
    results.put((len(seconds), sum(seconds), statistics.median(seconds), memory, exact_loss(model, held_out)))


def main() -> None:
    parser = argparse.ArgumentParser(description="Scalable and full cross-entropy on a language model.")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--vocabulary", type=int, default=50_000)
    parser.add_argument("--batch", type=int, default=32, help="windows a step")
    parser.add_argument("--length", type=int, default=32, help="words a window")
    parser.add_argument("--bucket_size_y", type=int, default=512)
    parser.add_argument("--width", type=int, default=64)
    options = parser.parse_args()
    words = read_words(options.vocabulary)
    print(
        f"{len(words):,} words, {options.vocabulary:,} different; {options.batch * options.length:,} a step\n"
        f"\n{'loss':22}{'steps':>6}{'seconds':>9}{'ms/step':>9}{'training MiB':>14}{'nats/word':>11}"
    )
    spawn = multiprocessing.get_context("spawn")
    spent = 0.0
    with tempfile.TemporaryDirectory() as folder:
        words_file = os.path.join(folder, "words.npy")
        np.save(words_file, words)
        for name, loss in (("full", "full"), ("SCE, as many steps", "SCE"), ("SCE, as many seconds", "SCE")):
            limit = spent if name.endswith("seconds") else 0.0
            results = spawn.SimpleQueue()
            process = spawn.Process(target=train, args=(loss, limit, words_file, options, results))
            process.start()
            process.join()
            if process.exitcode != 0:
                sys.exit(f"{name} failed, see above")
            steps, seconds, step, memory, nats = results.get()
            print(f"{name:22}{steps:6}{seconds:9.1f}{1000 * step:9.0f}{memory:14.0f}{nats:11.3f}", flush=True)
            spent = spent or seconds
    print(f"\nguessing: {np.log(options.vocabulary):.3f} nats/word")


if __name__ == "__main__":
    main()
