"""What a CNN reads in real CTCF peaks.

Trains a small CNN to tell 100-bp CTCF peaks from PU.1 peaks, maps held-out CTCF peaks with FastISM, and
checks that the importance sits where the biology says: on the core of the CTCF motif, near the middle of the
peaks.

    python examples/ctcf.py --data FOLDER --peaks 200 --output ctcf.png

FOLDER holds `ctcf_peaks.fa.gz` and `pu1_peaks.fa.gz`, with headers like `>chr1:100-200`. Needs the extra
`examples`: pip install "fastism[examples]".
"""

from __future__ import annotations

import gzip
import time
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from fastism.plot import importance, plot_ism, plot_profile

CORE = "CCRSNAGRKGGCRS"  # the core of the CTCF motif in IUPAC letters: CCGCGNGGNGGCAG, CCACCAGGGGGCGC ...
IUPAC = {"A": "A", "C": "C", "G": "G", "T": "T", "R": "AG", "S": "CG", "K": "GT", "N": "ACGT"}
CLEAR = 12  # positions of the core's 14 that agree where the core is clear
FILES = ("ctcf_peaks.fa.gz", "pu1_peaks.fa.gz")
HELD_OUT = ("chr8", "chr9")  # whole chromosomes, so that no overlapping peak is in both parts
PLANTED = (CORE, "AAAGAGGAAGTG")  # what stands in made-up peaks of each factor
DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"


class Peaks(NamedTuple):
    """Peaks of one factor: `onehot` (N, L, 4) float32, zeros where a letter is N, and N `names`."""

    onehot: np.ndarray
    names: np.ndarray


class Finding(NamedTuple):
    """Where the importance of the mapped peaks lies.

    Attributes:
        profile: mean importance at each position of the peaks, shape (L,), in log-odds.
        summit: the middle of the `len(CORE)` positions where the profile is highest, in bp.
        clear: how many peaks have a clear core: at least `CLEAR` positions agree; the rest of this counts
            only them.
        inside: mean importance of a position inside the core.
        outside: mean importance of a position elsewhere.
        hits: share of the peaks whose most important stretch of the core's width overlaps the core.
    """

    profile: np.ndarray
    summit: float
    clear: int
    inside: float
    outside: float
    hits: float


def read_peaks(path: Path) -> Peaks:
    """All sequences of a FASTA file, gzipped or not, in either case."""
    import dnaio

    with dnaio.open(path) as reader:
        records = [(record.name.split()[0], record.sequence) for record in reader]
    columns = np.full(256, 4, dtype=np.uint8)  # every letter that is not ACGT becomes a row of zeros
    for column, (upper, lower) in enumerate(zip("ACGT", "acgt", strict=True)):
        columns[[ord(upper), ord(lower)]] = column
    letters = columns[np.frombuffer("".join(sequence for _, sequence in records).encode(), dtype=np.uint8)]
    onehot = np.eye(5, 4, dtype=np.float32)[letters].reshape(len(records), -1, 4)
    return Peaks(onehot, np.array([name for name, _ in records]))


def missing(folder: Path) -> list[str]:
    """Which of the files of peaks a folder does not have."""
    return [name for name in FILES if not (folder / name).is_file()]


def plant(folder: Path, count: int = 5000, *, seed: int = 0) -> Path:
    """Write made-up peaks where there are no real ones: random letters with a motif near the middle.

    The folder then has what `FILES` says, `count` peaks of 100 bp in each, spread over ten chromosomes; half of the
    motifs are on the other strand. A letter of a core that may be any of several is drawn anew for each peak.
    """
    generator = np.random.default_rng(seed)
    for name, core in zip(FILES, PLANTED, strict=True):
        letters = generator.choice(list("ACGT"), (count, 100))
        starts = generator.normal(50 - len(core) / 2, 8, count).round().astype(int).clip(0, 100 - len(core))
        for offset, letter in enumerate(core):
            letters[np.arange(count), starts + offset] = generator.choice(list(IUPAC[letter]), count)
        with gzip.open(folder / name, "wt", compresslevel=1) as file:
            for number, row in enumerate(letters):
                text = "".join(row)
                if number // 10 % 2:
                    text = text.translate(str.maketrans("ACGT", "TGCA"))[::-1]
                file.write(f">chr{number % 10 + 1}:{200 * number}-{200 * number + 100}\n{text}\n")
    return folder


def split(peaks: Peaks, limit: int | None = None) -> tuple[Peaks, Peaks]:
    """The peaks to train on (at most `limit`) and those of the held-out chromosomes."""
    away = np.isin([name.partition(":")[0] for name in peaks.names], HELD_OUT)
    training = np.flatnonzero(~away)[:limit]
    return Peaks(peaks.onehot[training], peaks.names[training]), Peaks(peaks.onehot[away], peaks.names[away])


def label(ctcf: Peaks, pu1: Peaks) -> tuple[np.ndarray, np.ndarray]:
    """Both factors' sequences, and 1.0 for CTCF or 0.0 for PU.1, shape (N, 1)."""
    labels = np.repeat([1.0, 0.0], [len(ctcf.onehot), len(pu1.onehot)]).astype(np.float32)
    return np.concatenate([ctcf.onehot, pu1.onehot]), labels[:, None]


def train(sequences: np.ndarray, labels: np.ndarray, *, epochs: int = 2, seed: int = 0) -> Any:
    """A CNN of two convolutions and a small head that gives the log-odds of CTCF against PU.1."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(seed)
    sequence = keras.Input(sequences.shape[1:], name="sequence")
    tensor = layers.Conv1D(48, 15, padding="same", activation="relu")(sequence)
    tensor = layers.MaxPooling1D(4)(tensor)
    tensor = layers.Conv1D(48, 5, padding="same", activation="relu")(tensor)
    tensor = layers.MaxPooling1D(5)(tensor)
    tensor = layers.Dense(64, activation="relu")(layers.Flatten()(tensor))
    model = keras.Model(sequence, layers.Dense(1, name="log_odds")(tensor))
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(sequences, labels, epochs=epochs, batch_size=64, shuffle=True, verbose=0)
    return model


def area_under_curve(model: Any, sequences: np.ndarray, labels: np.ndarray) -> float:
    """The chance that a CTCF peak scores above a PU.1 peak."""
    scores = model.predict(sequences, verbose=0)[:, 0]
    negatives = np.sort(scores[labels[:, 0] == 0])
    positives = scores[labels[:, 0] == 1]
    below = np.searchsorted(negatives, positives, "left") + np.searchsorted(negatives, positives, "right")
    return float(below.mean() / (2 * len(negatives)))


def find_cores(onehot: np.ndarray, core: str = CORE) -> tuple[np.ndarray, np.ndarray]:
    """The best match of a core on either strand: its start, 0-based, and how many positions agree."""
    forward = np.array([[base in IUPAC[letter] for base in "ACGT"] for letter in core], dtype=np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(onehot, len(core), axis=1)  # (N, L - K + 1, 4, K)
    both = [np.einsum("nlak,ka->nl", windows, strand) for strand in (forward, forward[::-1, ::-1])]
    agreement = np.maximum(*both)  # (N, L - K + 1)
    return agreement.argmax(axis=1), agreement.max(axis=1).astype(int)


def find_importance(onehot: np.ndarray, scores: np.ndarray) -> Finding:
    """Summarise the importances (N, L) of sequences (N, L, 4) around their best match of the core."""
    width = len(CORE)
    starts, agreement = find_cores(onehot)
    clear = agreement >= CLEAR
    if not clear.any():
        raise ValueError(f"no sequence has {CLEAR} positions of the core {CORE}: map more CTCF peaks")
    offset = np.arange(onehot.shape[1]) - starts[:, None]
    in_core = (offset >= 0) & (offset < width)
    inside, outside = in_core & clear[:, None], ~in_core & clear[:, None]
    stretches = np.lib.stride_tricks.sliding_window_view(scores, width, axis=1).mean(axis=2)
    profile = scores.mean(axis=0)
    return Finding(
        profile=profile,
        summit=float(np.convolve(profile, np.ones(width) / width, "valid").argmax() + (width - 1) / 2),
        inside=float(scores[inside].mean()),
        outside=float(scores[outside].mean()),
        clear=int(clear.sum()),
        hits=float(np.mean(np.abs(stretches.argmax(axis=1) - starts)[clear] < width)),
    )


def check(finding: Finding) -> list[str]:
    """What is wrong with the finding, if the model read CTCF's core; empty when all is well."""
    length = len(finding.profile)
    problems = []
    if not 0.3 * length <= finding.summit < 0.7 * length:
        problems.append(f"the mean importance peaks at {finding.summit:.0f} of {length} bp, not near the middle")
    if finding.inside < 3 * max(finding.outside, 0.0) or finding.inside <= 0:
        problems.append(
            f"a position in the core matters {finding.inside:.3f} on average, one outside "
            f"{finding.outside:.3f}: less than three times as much"
        )
    if finding.hits < 0.5:
        problems.append(f"only {finding.hits:.0%} of the peaks have their most important stretch on the core")
    return problems


def draw(finding: Finding, peaks: Peaks, differences: np.ndarray, shown: int = 3) -> Any:
    """A figure: the mean importance of all peaks, and the maps of the first peaks with a clear core."""
    from matplotlib.figure import Figure

    starts, agreement = find_cores(peaks.onehot)
    examples = np.flatnonzero(agreement >= CLEAR)[:shown]
    heights = [1.2] + [2.0] * len(examples)  # inches, without the gaps
    total = sum(heights) + 1.0 * len(heights)
    figure = Figure(figsize=(11, total))
    blocks = figure.add_gridspec(
        len(heights),
        1,
        height_ratios=heights,
        left=0.075,
        right=0.91,
        top=1 - 0.45 / total,
        bottom=0.5 / total,
        hspace=1.0 * len(heights) / sum(heights),
    )
    mean = plot_profile(finding.profile, ax=figure.add_subplot(blocks[0]), label="mean importance")
    mean.axvline(finding.summit, color="#C98500", linewidth=1.2, linestyle=(0, (4, 3)))
    title = f"Mean importance of {len(peaks.onehot)} held-out CTCF peaks, highest around {finding.summit:.0f} bp"
    mean.set_title(title, loc="left", fontsize=11, weight="bold")
    for block, index in zip(list(blocks)[1:], examples, strict=True):
        parts = block.subgridspec(2, 1, height_ratios=(1.4, 1), hspace=0.06)
        start = int(starts[index])
        plot_ism(
            peaks.onehot[index],
            differences[index],
            axes=[figure.add_subplot(part) for part in parts],
            title=peaks.names[index],
            highlight=(start, start + len(CORE), f"CTCF core, {agreement[index]} of {len(CORE)} positions"),
            label="change of\nlog-odds",
        )
    figure.align_ylabels()
    return figure


@click.command(context_settings={"show_default": True})
@click.option(
    "--data",
    default=DATA,
    envvar="FASTISM_DATA",
    type=click.Path(path_type=Path),
    help="Folder of the peaks.",
)
@click.option("--peaks", default=200, envvar="FASTISM_PEAKS", type=click.IntRange(10), help="Held-out peaks to map.")
@click.option("--output", default="ctcf.png", type=click.Path(path_type=Path, dir_okay=False), help="The picture.")
@click.option("--epochs", default=2, type=click.IntRange(1), help="Passes over the training peaks.")
@click.option(
    "--training",
    envvar="FASTISM_TRAINING",
    type=click.IntRange(100),
    help="Training peaks of each factor; default all.",
)
def main(data: Path, peaks: int, output: Path, epochs: int, training: int | None) -> None:
    """Train on CTCF and PU.1 peaks, map held-out CTCF peaks, and check that the CTCF core stands out."""
    if absent := missing(data):
        click.echo(f"skipped: {data} has no {' and no '.join(absent)}; name their folder with --data or FASTISM_DATA")
        return
    from fastism import FastISM, NaiveISM

    (ctcf, held_out), (pu1, held_out_pu1) = (split(read_peaks(data / name), training) for name in FILES)
    begun = time.perf_counter()
    model = train(*label(ctcf, pu1), epochs=epochs)
    auc = area_under_curve(model, *label(held_out, held_out_pu1))
    click.echo(
        f"Trained on {len(ctcf.onehot)} CTCF and {len(pu1.onehot)} PU.1 peaks in "
        f"{time.perf_counter() - begun:.0f} s; AUC {auc:.3f} on {len(held_out.onehot)} and "
        f"{len(held_out_pu1.onehot)} of {' and '.join(HELD_OUT)}"
    )

    mapped = Peaks(held_out.onehot[:peaks], held_out.names[:peaks])
    begun = time.perf_counter()
    result = FastISM(model).saturate(mapped.onehot, progress=True)
    click.echo(
        f"FastISM mapped {len(mapped.onehot)} CTCF peaks in {time.perf_counter() - begun:.1f} s, set-up included"
    )
    differences = (result.mutant - result.reference[:, None, None])[..., 0]  # (N, L, 4)

    naive = NaiveISM(model).saturate(mapped.onehot[:3])
    error = float(np.abs(result.mutant[:3] - naive.mutant).max())
    effect = float(np.abs(naive.mutant - naive.reference[:, None, None]).max())
    click.echo(f"Against NaiveISM on 3 peaks: largest difference {error:.1e}, largest effect {effect:.2f}")

    finding = find_importance(mapped.onehot, importance(mapped.onehot, differences))
    draw(finding, mapped, differences).savefig(output, dpi=150)
    click.echo(
        f"Mean importance is highest around {finding.summit:.0f} of {len(finding.profile)} bp. In the "
        f"{finding.clear} peaks with a clear core, a position in it matters {finding.inside:.2f}, one "
        f"outside {finding.outside:.2f}; the most important stretch meets the core in {finding.hits:.0%}"
    )
    click.echo(f"Picture: {output}")
    problems = check(finding)
    if error > 1e-3 * effect:
        problems.append(
            f"FastISM and NaiveISM differ by {error:.1e}, more than a thousandth of the effect {effect:.2f}"
        )
    if problems:
        raise click.ClickException("; ".join(problems))


if __name__ == "__main__":
    main()
