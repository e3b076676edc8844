"""Times tangermeme, in an environment of its own where that package is installed; imports nothing of ours.

Reads a request as JSON from standard input and writes the answer where it says. The networks are those of
`fastism.models`, written for torch: channels first, with the weights of the Keras models.
"""

import importlib
import json
import sys
import time
import warnings
from functools import partial
from statistics import median

import numpy as np
import torch
from torch import nn

#: Positions on which batch sizes are tried.
STRETCH = 64


class Weights:
    """The arrays of a Keras model, in order, as torch layers."""

    def __init__(self, arrays):
        self._left = iter(arrays)

    def convolution(self, dilation=1, transposed=False):
        """(k, in, out) -> (out, in, k); a transposed one is a convolution with the kernel turned."""
        kernel, bias = next(self._left), next(self._left)
        if transposed:
            kernel = kernel[::-1, 0].transpose(0, 2, 1)  # (k, 1, out, in) -> (k, in, out)
        layer = nn.Conv1d(kernel.shape[1], kernel.shape[2], kernel.shape[0], padding="same", dilation=dilation)
        return filled(layer, weight=kernel.transpose(2, 1, 0), bias=bias)

    def dense(self, channels=None):
        """(in, out) -> (out, in); after a Flatten of (length, channels), for one of (channels, length)."""
        kernel, bias = next(self._left), next(self._left)
        if channels is not None:
            kernel = kernel.reshape(-1, channels, kernel.shape[1]).swapaxes(0, 1).reshape(kernel.shape)
        return filled(nn.Linear(*kernel.shape), weight=kernel.T, bias=bias)

    def norm(self):
        """Batch normalisation as Keras sets it up."""
        gamma, beta, mean, variance = (next(self._left) for _ in range(4))
        layer = nn.BatchNorm1d(len(gamma), eps=1e-3)
        return filled(layer, weight=gamma, bias=beta, running_mean=mean, running_var=variance)

    def head(self, channels):
        """Flatten, two hidden layers, a linear one."""
        hidden = [nn.Flatten(), self.dense(channels), nn.ReLU(), self.norm(), self.dense(), nn.ReLU(), self.norm()]
        return [*hidden, self.dense()]

    def end(self):
        """Make sure that none are left."""
        if next(self._left, None) is not None:
            raise ValueError("the networks differ: weights are left over")


def filled(layer, **arrays):
    """The layer, with these values."""
    with torch.no_grad():
        for name, array in arrays.items():
            getattr(layer, name).copy_(torch.from_numpy(np.ascontiguousarray(array)))
    return layer


def basset(weights):
    """Basset."""
    layers = []
    for pool in (3, 4, 4):
        layers += [weights.convolution(), nn.ReLU(), weights.norm(), nn.MaxPool1d(pool)]
    return nn.Sequential(*layers, *weights.head(200))


def factorized_basset(weights):
    """Factorized Basset."""
    layers = []
    for depth, pool in ((5, 3), (3, 4), (1, 4)):
        for _ in range(depth):
            layers += [weights.convolution(), weights.norm(), nn.ReLU()]
        layers.append(nn.MaxPool1d(pool))
    return nn.Sequential(*layers, *weights.head(200))


class BPNet(nn.Module):
    """BPNet, nine dilated layers, without control tracks."""

    def __init__(self, weights):
        super().__init__()
        self.first = weights.convolution()
        self.dilated = nn.ModuleList([weights.convolution(2**i) for i in range(9)])
        self.profile = weights.convolution(transposed=True)
        self.counts = weights.dense()

    def forward(self, x):
        """(N, 4, L) -> profile (N, L) and counts (N, 1)."""
        x = torch.relu(self.first(x))
        for layer in self.dilated:
            x = torch.relu(layer(x)) + x
        return self.profile(x)[:, 0], self.counts(x.mean(dim=-1))


MODELS = {"basset": basset, "factorized_basset": factorized_basset, "bpnet": BPNet}


def main():
    """Answer one request."""
    request = json.load(sys.stdin)
    package = importlib.import_module("tangermeme")
    module = importlib.import_module("tangermeme.saturation_mutagenesis")
    with np.load(request["given"]) as given:
        x = torch.from_numpy(given["x"].transpose(0, 2, 1).copy())
        weights = Weights([given[f"w{i}"] for i in range(len(given.files) - 1)])
    model = MODELS[request["model"]](weights).eval()
    weights.end()
    # or it would not try its fast way on what takes less than half a minute
    vars(module)["_FAST_MIN_SECONDS"] = 0.0
    run = partial(module.saturation_mutagenesis, model, x, raw_outputs=True, device="cpu")
    answer = {"tangermeme": package.__version__, "torch": torch.__version__, "threads": torch.get_num_threads()}
    middle = x.shape[2] // 2
    stretch = {"start": max(0, middle - STRETCH // 2), "end": min(x.shape[2], middle + STRETCH // 2)}
    answer["plain"], outputs = timed(run, request, stretch, fast=False)
    answer["fast"], _ = timed(run, request, {}, fast=True)
    answer["fast"]["capture_s"] = clocked(run, start=0, end=1, batch_size=answer["fast"]["batch_size"], fast=True)[1]
    references, mutants = (y if isinstance(y, (list, tuple)) else [y] for y in outputs)
    arrays = {f"r{i}": y.numpy() for i, y in enumerate(references)}
    arrays.update({f"m{i}": y.numpy().swapaxes(1, 2) for i, y in enumerate(mutants)})  # (N, L, A, ...)
    np.savez(request["outputs"], **arrays)
    with open(request["answer"], "w") as file:
        json.dump(answer, file)


def timed(run, request, stretch, fast):
    """Times at the best batch size, found on a stretch of positions; whether the fast way was taken; outputs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rates = {b: clocked(run, batch_size=b, fast=fast, **stretch)[1] for b in request["batches"]}
    best = min(rates, key=rates.__getitem__)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        runs = [clocked(run, batch_size=best, fast=fast) for _ in range(request["repeats"])]
    reasons = [str(w.message) for w in said if type(w.message).__name__ == "TangermemeWarning"]
    times = [seconds for _, seconds in runs]
    record = {"batch_size": best, "times_s": times, "median_s": median(times), "tried_s": rates}
    return {**record, "not_fast": reasons[-1] if reasons else None}, runs[-1][0]


def clocked(run, **options):
    """What a run gives, and its seconds."""
    begun = time.perf_counter()
    result = run(**options)
    return result, time.perf_counter() - begun


if __name__ == "__main__":
    main()
