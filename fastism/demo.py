"""The demo: train a small CNN on planted motifs, map it with NaiveISM and FastISM, and show that they agree.

Everything is made from a seed, so the demo needs no data and runs on every Keras backend. `fastism demo` is
the same from a shell.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastism.plot import INK, _plotting, importance, plot_ism, plot_profile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DemoResult", "PlantedSequences", "Timing", "make_sequences", "plot_maps", "run_demo", "write_genome"]

ALPHABET = "ACGT"
MOTIF = "CCACCAGGGGGCGC"  # the core of the CTCF motif
MOTIF_NAME = "planted CTCF core"
KEPT = 0.9  # the chance that a planted letter is the motif's own
ZOOM = 72  # positions of the close-up around the motif, in bp
SHADE = "#EDEFF4"
GENOME_SEQUENCES = 40  # joined to a chromosome

# Chances of the next letter (A, C, G, T) after A, C, G and T: like the human genome's, with few CG pairs.
NEXT_LETTER = np.array(
    [
        [0.33, 0.17, 0.26, 0.24],
        [0.36, 0.26, 0.05, 0.33],
        [0.29, 0.21, 0.27, 0.23],
        [0.22, 0.20, 0.25, 0.33],
    ]
)


class PlantedSequences(NamedTuple):
    """Sequences, half of them with the motif.

    Attributes:
        onehot: shape (N, L, 4), float32, letters ACGT.
        labels: shape (N,), 1 with the motif, 0 with the motif's letters shuffled.
        motif_start: shape (N,), the position of the first planted letter, 0-based, in bp.
    """

    onehot: np.ndarray
    labels: np.ndarray
    motif_start: np.ndarray


@dataclass(frozen=True)
class Timing:
    """Wall-clock seconds of mapping the same sequences twice.

    Attributes:
        first: building the object and the first map, which compiles.
        again: the second map, with everything ready.
        variants: how many mutated sequences a map holds.
    """

    first: float
    again: float
    variants: int


@dataclass(frozen=True)
class DemoResult:
    """What the demo measured and wrote.

    Attributes:
        auc: area under the ROC curve on held-out sequences.
        naive: the times of NaiveISM.
        fast: the times of FastISM.
        largest_difference: the largest |FastISM - NaiveISM| over the maps, in log-odds.
        effect: the largest |mutant - reference| over the maps, in log-odds.
        recovered: for each mapped sequence, the share of its 14 most important positions inside the planted
            motif.
        figure: the path of the picture.
        model: the path of the trained model.
        genome: the path of a small genome of held-out sequences, for the other commands; beside it are `peaks.bed`,
            `variants.vcf` and `genome.sizes`.
    """

    auc: float
    naive: Timing
    fast: Timing
    largest_difference: float
    effect: float
    recovered: tuple[float, ...]
    figure: Path
    model: Path
    genome: Path

    @property
    def speed_up(self) -> float:
        """How many times faster FastISM maps, with everything ready."""
        return self.naive.again / self.fast.again

    @property
    def speed_up_first(self) -> float:
        """How many times faster the first map is, building and compiling counted on both sides."""
        return self.naive.first / self.fast.first


def run_demo(
    output: str | os.PathLike[str] = "fastism-demo",
    *,
    seed: int = 0,
    sequences: int = 3,
    length: int = 1000,
    epochs: int = 5,
    filters: int = 128,
    training_sequences: int = 1600,
    progress: bool = True,
    echo: Callable[[str], Any] = lambda line: None,
) -> DemoResult:
    """Train, map with NaiveISM and with FastISM, compare, and write the picture, the model and a small genome.

    Args:
        output: the folder for `ism.png`, `model.keras` and the genome's files, made if missing.
        seed: the seed of the sequences and of the weights.
        sequences: how many held-out sequences with the motif to map.
        length: the length of every sequence, in bp, at least 100.
        epochs: passes over the training sequences.
        filters: channels of each convolution.
        training_sequences: how many sequences to train on, half of them with the motif.
        progress: whether to show progress bars.
        echo: called with each line of the report.

    Returns:
        What was measured and written.

    Raises:
        ValueError: if a number is out of range.
        ImportError: if the plot extra is missing; said before anything is trained.
    """
    _check(sequences=(sequences, 1), length=(length, 100), epochs=(epochs, 1), filters=(filters, 1))
    _check(training_sequences=(training_sequences, 10))
    for module in ("matplotlib", "logomaker"):
        _plotting(module)
    import keras

    from fastism.ism import FastISM
    from fastism.naive import NaiveISM

    keras.utils.set_random_seed(seed)
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    held_out_count = max(400, 3 * sequences)
    everything = make_sequences(training_sequences + held_out_count, length, np.random.default_rng(seed))
    training, held_out = (
        PlantedSequences(*(part[where] for part in everything))
        for where in (slice(training_sequences), slice(training_sequences, None))
    )
    echo(
        f"Training a CNN on {training_sequences} sequences of {length} bp (Keras {keras.__version__}, "
        f"{keras.backend.backend()})"
    )
    model, auc = _train(training, held_out, filters=filters, epochs=epochs, echo=echo)
    model_path = folder / "model.keras"
    model.save(model_path)
    model = keras.saving.load_model(model_path)

    chosen = _choose(model, held_out, sequences)
    variants = 3 * length * len(chosen.onehot)
    echo(f"\nMapping {len(chosen.onehot)} held-out sequences: {variants:,} mutants, every letter at every position")
    slow, naive = _time_map(NaiveISM, model, chosen.onehot, progress=progress, echo=echo)
    quick, fast = _time_map(FastISM, model, chosen.onehot, progress=progress, echo=echo)

    differences = (quick.mutant - quick.reference[:, None, None])[..., 0]  # (N, L, 4)
    result = DemoResult(
        auc=auc,
        naive=naive,
        fast=fast,
        largest_difference=float(np.abs(quick.mutant - slow.mutant).max()),
        effect=float(np.abs(slow.mutant - slow.reference[:, None, None]).max()),
        recovered=_recovered(chosen, differences),
        figure=folder / "ism.png",
        model=model_path,
        genome=write_genome(folder, PlantedSequences(*(part[:GENOME_SEQUENCES] for part in held_out))),
    )
    plot_maps(chosen, differences, predictions=quick.reference[:, 0]).savefig(result.figure, dpi=150)
    for line in _report(result):
        echo(line)
    return result


def make_sequences(count: int, length: int, generator: np.random.Generator) -> PlantedSequences:
    """Genome-like sequences: every second one holds the motif, the others the same letters shuffled.

    Args:
        count: how many sequences, N.
        length: their length L, in bp.
        generator: the source of chance.

    Returns:
        The sequences, their labels, and where each planted stretch starts.

    Example:
        >>> made = make_sequences(4, 200, np.random.default_rng(0))
        >>> made.onehot.shape, made.labels.tolist()
        ((4, 200, 4), [0, 1, 0, 1])
    """
    cumulative = (NEXT_LETTER / NEXT_LETTER.sum(axis=1, keepdims=True)).cumsum(axis=1)
    letters = np.empty((count, length), dtype=np.int64)
    letters[:, 0] = generator.integers(0, 4, count)
    for position in range(1, length):
        chance = generator.random(count)[:, None]
        letters[:, position] = np.minimum((chance > cumulative[letters[:, position - 1]]).sum(axis=1), 3)

    labels = np.arange(count) % 2
    motif = np.array([ALPHABET.index(letter) for letter in MOTIF])
    edge = length // 10
    starts = generator.integers(edge, length - edge - len(motif), count)
    for sequence, label, start in zip(letters, labels, starts, strict=True):
        planted = np.where(generator.random(len(motif)) < KEPT, motif, generator.integers(0, 4, len(motif)))
        sequence[start : start + len(motif)] = planted if label else generator.permutation(planted)
    return PlantedSequences(np.eye(4, dtype=np.float32)[letters], labels, starts)


def write_genome(folder: Path, held_out: PlantedSequences) -> Path:
    """Files to try the other commands on: the sequences joined to a chromosome, its peaks and variants.

    Args:
        folder: where to write `genome.fa`, `genome.sizes`, `peaks.bed` (those with the motif) and `variants.vcf` (one
            substitution within the motif of each peak, and one outside of it).
        held_out: sequences that the model was not trained on.

    Returns:
        The path of `genome.fa`.
    """
    length = held_out.onehot.shape[1]
    letters = np.array(list(ALPHABET))[held_out.onehot.argmax(axis=-1)]
    text = "".join(letters.reshape(-1))
    peaks, variants = [], []
    for index in np.flatnonzero(held_out.labels):
        first, motif = int(index) * length, int(held_out.motif_start[index])
        name = f"peak_{len(peaks) + 1}"
        peaks.append(f"chr1\t{first}\t{first + length}\t{name}\t0\t+\n")
        for where, place in (("motif", motif + len(MOTIF) // 2), ("beside", (motif + length // 2) % length)):
            ref = text[first + place]
            alt = "A" if ref != "A" else "T"
            variants.append(f"chr1\t{first + place + 1}\t{name}_{where}\t{ref}\t{alt}\t.\t.\t.\n")
    head = "##fileformat=VCFv4.2", f"##contig=<ID=chr1,length={len(text)}>", "#CHROM POS ID REF ALT QUAL FILTER INFO"
    variants.sort(key=lambda row: int(row.split("\t")[1]))
    lines = (text[i : i + 60] for i in range(0, len(text), 60))
    path = folder / "genome.fa"
    path.write_text("\n".join([">chr1", *lines, ""]), encoding="utf-8")
    (folder / "genome.sizes").write_text(f"chr1\t{len(text)}\n", encoding="utf-8")
    (folder / "peaks.bed").write_text("".join(peaks), encoding="utf-8")
    header = "\n".join([*head[:2], head[2].replace(" ", "\t"), ""])
    (folder / "variants.vcf").write_text(header + "".join(variants), encoding="utf-8")
    return path


def plot_maps(chosen: PlantedSequences, differences: np.ndarray, *, predictions: Sequence[float]) -> Figure:
    """One picture: for each sequence its importance from end to end, and a logo and heatmap around the motif.

    Args:
        chosen: the N mapped sequences.
        differences: mutant - reference, shape (N, L, 4), in log-odds.
        predictions: the prediction for each sequence, in log-odds.

    Returns:
        A matplotlib figure; it has a `savefig`.
    """
    count = len(chosen.onehot)
    height = 1.35 + 3.3 * count  # inches
    figure = _plotting("matplotlib.figure").Figure(figsize=(10, height))
    figure.text(
        0.08,
        1 - 0.2 / height,
        "Mutating every letter finds the planted motif",
        fontsize=15,
        weight="bold",
        color=INK,
        va="top",
    )
    legend = (
        "Curve and letters: importance, minus a quarter of what the three substitutions change together.\n"
        "Heatmap: red raises the log-odds of a motif, blue lowers them; a dot marks the sequence's own "
        "letter."
    )
    figure.text(0.08, 1 - 0.5 / height, legend, fontsize=9, color=INK, va="top", linespacing=1.5)
    blocks = figure.add_gridspec(count, 1, left=0.08, right=0.9, top=1 - 1.5 / height, bottom=0.5 / height, hspace=0.5)
    limit = float(np.abs(differences).max())
    for index, block in enumerate(blocks):
        parts = block.subgridspec(2, 1, height_ratios=(0.16, 1), hspace=0.32)
        close_up = parts[1].subgridspec(2, 1, height_ratios=(1.35, 1), hspace=0.06)
        axes = (figure.add_subplot(parts[0]), *(figure.add_subplot(part) for part in close_up))
        one = PlantedSequences(*(part[index] for part in chosen))
        _draw_map(axes, one, differences[index], limit)
        title = f"Held-out sequence {index + 1}: log-odds {predictions[index]:+.1f}"
        axes[0].set_title(title, loc="left", fontsize=10.5, weight="bold", color=INK, pad=9)
    figure.align_ylabels()
    return figure


def _draw_map(axes: Sequence[Any], one: PlantedSequences, differences: np.ndarray, limit: float) -> None:
    """One sequence on three axes: the whole of it, then the logo and heatmap around the motif."""
    whole, logo, heatmap = axes
    length, start = len(one.onehot), int(one.motif_start)
    width = min(ZOOM, length)
    left = int(np.clip(start + len(MOTIF) // 2 - width // 2, 0, length - width))
    plot_profile(importance(one.onehot, differences), ax=whole, label="")
    whole.tick_params(axis="x", bottom=False, labelbottom=False, top=True, labeltop=True)
    whole.set_yticks([])
    whole.spines["left"].set_visible(False)
    plot_ism(
        one.onehot[left : left + width],
        differences[left : left + width],
        axes=(logo, heatmap),
        start=left,
        highlight=(start, start + len(MOTIF), MOTIF_NAME),
        limit=limit,
        label="change of\nlog-odds",
    )
    whole.axvspan(left - 0.5, left + width - 0.5, color=SHADE, linewidth=0, zorder=0)
    funnel = _funnel(whole, logo, left - 0.5, left + width - 0.5)
    whole.figure.add_artist(_plotting("matplotlib.patches").Polygon(funnel, color=SHADE, linewidth=0, zorder=-1))


def _funnel(whole: Any, logo: Any, left: float, right: float) -> list[tuple[float, float]]:
    """Corners of the shade between a range of the upper axes and the lower axes, as shares of the figure."""
    upper, lower = whole.get_position(), logo.get_position()
    first, last = whole.get_xlim()
    ends = [upper.x0 + upper.width * (position - first) / (last - first) for position in (left, right)]
    return [(ends[0], upper.y0), (ends[1], upper.y0), (lower.x1, lower.y1), (lower.x0, lower.y1)]


def _train(training: PlantedSequences, held_out: PlantedSequences, *, filters: int, epochs: int, echo: Any) -> Any:
    """A trained model that gives log-odds, and its AUC on the held-out sequences."""
    import keras

    model = _build(training.onehot.shape[1], filters)
    model.compile(
        optimizer=keras.optimizers.Adam(2e-3),
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        metrics=[keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)],
    )

    def say(epoch: int, logs: dict[str, float] | None = None) -> None:
        numbers = logs or {}
        echo(
            f"  epoch {epoch + 1} of {epochs}: loss {numbers['loss']:.3f}, "
            f"held-out accuracy {100 * numbers['val_accuracy']:.1f} %"
        )

    begun = time.perf_counter()
    model.fit(
        training.onehot,
        training.labels[:, None].astype("float32"),
        validation_data=(held_out.onehot, held_out.labels[:, None].astype("float32")),
        epochs=epochs,
        batch_size=32,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=say)],
    )
    seconds = time.perf_counter() - begun
    auc = _area_under_curve(model.predict(held_out.onehot, verbose=0)[:, 0], held_out.labels)
    echo(f"  trained in {seconds:.0f} s; AUC {auc:.3f} on {len(held_out.labels)} held-out sequences")
    return model, auc


def _build(length: int, filters: int) -> Any:
    """Two convolutions with pooling, the best match anywhere, and a small head that gives log-odds."""
    import keras
    from keras import layers

    sequence = keras.Input((length, 4), name="sequence")
    tensor = layers.Conv1D(filters, 19, padding="same", activation="relu", name="motifs")(sequence)
    tensor = layers.MaxPooling1D(4, name="motifs_pool")(tensor)
    tensor = layers.Conv1D(filters, 9, padding="same", activation="relu", name="context")(tensor)
    tensor = layers.MaxPooling1D(4, name="context_pool")(tensor)
    tensor = layers.GlobalMaxPooling1D(name="best_match")(tensor)
    tensor = layers.Dense(32, activation="relu", name="hidden")(tensor)
    return keras.Model(sequence, layers.Dense(1, name="log_odds")(tensor), name="planted_motif")


def _choose(model: Any, held_out: PlantedSequences, count: int) -> PlantedSequences:
    """The first held-out sequences with the motif, those that the model recognises before the others."""
    positive = np.flatnonzero(held_out.labels)
    missed = model.predict(held_out.onehot[positive], verbose=0)[:, 0] <= 0
    chosen = positive[np.argsort(missed, kind="stable")][:count]
    return PlantedSequences(*(part[chosen] for part in held_out))


def _time_map(
    kind: Callable[[Any], Any], model: Any, onehot: np.ndarray, *, progress: bool, echo: Any
) -> tuple[Any, Timing]:
    """The map of the sequences by one of the two classes, made twice, with its times."""
    name = getattr(kind, "__name__", "")
    echo(f"{name}, first map, with building and compiling")
    begun = time.perf_counter()
    mapper = kind(model)
    mapper.saturate(onehot, progress=progress)
    first = time.perf_counter()
    echo(f"{name}, second map")
    result = mapper.saturate(onehot, progress=progress)
    again = time.perf_counter()
    return result, Timing(first - begun, again - first, 3 * onehot.shape[0] * onehot.shape[1])


def _recovered(chosen: PlantedSequences, differences: np.ndarray) -> tuple[float, ...]:
    """For each sequence, the share of its most important positions that lie in the planted motif."""
    width = len(MOTIF)
    shares = []
    for scores, start in zip(importance(chosen.onehot, differences), chosen.motif_start, strict=True):
        best = np.argsort(scores)[-width:]
        shares.append(float(np.mean((best >= start) & (best < start + width))))
    return tuple(shares)


def _report(result: DemoResult) -> list[str]:
    """The closing lines: times, agreement, what the map found, and where to go next."""
    lines = ["", f"{'':10}{'first map':>12}{'second map':>12}{'mutants/s':>12}"]
    for name, timing in (("NaiveISM", result.naive), ("FastISM", result.fast)):
        rate = timing.variants / timing.again
        lines.append(f"{name:10}{timing.first:11.2f}s{timing.again:11.2f}s{rate:12,.0f}")
    lines.append(f"{'speed-up':10}{result.speed_up_first:11.1f}x{result.speed_up:11.1f}x")
    lines.append("(the first map counts building and compiling, on both sides; mutants/s is the second map's)")
    found = ", ".join(f"{share:.0%}" for share in result.recovered)
    lines += [
        "",
        f"Largest difference between the two: {result.largest_difference:.1e}, "
        f"where mutations change the log-odds by up to {result.effect:.1f}",
        f"Of the {len(MOTIF)} most important positions, in the planted motif: {found}",
    ]
    if min(result.recovered) < 0.5:
        lines.append("The motif is not plain in every map: train longer (more epochs, more training sequences)")
    lines += [
        "",
        f"Picture   {result.figure}",
        f"Model     {result.model}",
        f"Genome    {result.genome}, with peaks.bed, variants.vcf and genome.sizes beside it",
        "",
        "Go on with it, or with files of your own:",
        *(["  source .venv/bin/activate"] if Path(".venv/bin/activate").is_file() else []),
        f"  cd {result.genome.parent}",
        "  fastism ism -m model.keras -g genome.fa -r peaks.bed -o peaks.zarr",
        "  fastism report peaks.zarr",
        "  fastism variants -m model.keras -g genome.fa -v variants.vcf -o scores.tsv",
        "",
        "Or, there, in Python:",
        "  from fastism import FastISM, load_model",
        f"  model = load_model({result.model.name!r})",
        "  result = FastISM(model).saturate(x)  # x: one-hot sequences, shape (N, L, 4)",
    ]
    return [*lines, *_documentation()]


def _documentation() -> list[str]:
    """Where the installed package says its documentation is."""
    try:
        addresses = metadata("fastism").get_all("Project-URL") or []
    except PackageNotFoundError:
        return []
    return [
        f"Documentation: {url}"
        for name, _, url in (line.partition(", ") for line in addresses)
        if name == "Documentation"
    ]


def _area_under_curve(scores: np.ndarray, labels: np.ndarray) -> float:
    """The chance that a positive scores above a negative, ties counting half."""
    negatives = np.sort(scores[labels == 0])
    positives = scores[labels == 1]
    below = np.searchsorted(negatives, positives, "left") + np.searchsorted(negatives, positives, "right")
    return float(below.mean() / (2 * len(negatives)))


def _check(**numbers: tuple[int, int]) -> None:
    """Refuse a number below its smallest sensible value."""
    for name, (value, least) in numbers.items():
        if value < least:
            raise ValueError(f"{name}: received {value}; accepted is {least} or more.")
