"""A small genome in a file, regions and variants of it, and a model: what tests of pipelines and commands share."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers as L

from fastism.testing import randomize

LENGTH = 40


def write_genome(folder):
    """FASTA with two chromosomes; chr1 has lower case and a run of N."""
    rng = np.random.default_rng(0)
    one = "".join(rng.choice(list("ACGT"), 400))
    one = one[:100] + one[100:150].lower() + "N" * 10 + one[160:]
    two = "".join(rng.choice(list("ACGT"), 120))
    path = folder / "genome.fa"
    path.write_text(f">chr1\n{one}\n>chr2\n{two}\n")
    return path, {"chr1": one, "chr2": two}


def window(text, start, end, strand="+"):
    """(L, 4) what a region reads, N beyond the ends."""
    padded = "N" * 1000 + text.upper() + "N" * 1000
    rows = np.array([[c == b for b in "ACGT"] for c in padded[1000 + start : 1000 + end]], dtype="float32")
    return rows[::-1, ::-1].copy() if strand == "-" else rows


def write_regions(folder):
    """BED6 rows: plain, over both ends, in N, on the other strand, unknown chromosome, wholly outside, malformed."""
    rows = [
        "chr1\t100\t140\tplain\t0\t+",
        "chr1\t0\t20\tleft\t0\t+",
        "chr2\t110\t120\tright\t0\t-",
        "chr1\t140\t170\twith_n\t0\t.",
        "chr1\t200\t241\tminus\t0\t-",
        "chr9\t0\t10\tnowhere\t0\t+",
        "chr2\t900\t940\toutside\t0\t+",
        "chr1\tten\t20\tbad\t0\t+",
    ]
    path = folder / "regions.bed"
    path.write_text("\n".join(rows) + "\n")
    return path


#: What the first five rows become at 40 bp.
WINDOWS = [
    ("chr1", 100, 140, "+"),
    ("chr1", -10, 30, "+"),
    ("chr2", 95, 135, "-"),
    ("chr1", 135, 175, "."),
    ("chr1", 200, 240, "-"),
]


def save_model(folder, name="model.keras", seed=0, profile=False):
    """A small model of 40 bp in a file."""
    x = keras.Input((LENGTH, 4))
    h = L.Conv1D(6, 5, activation="relu", padding="same")(x)
    if profile:
        y = [L.Conv1D(2, 3, padding="same", activation="softplus")(h), L.Dense(1)(L.GlobalAveragePooling1D()(h))]
    else:
        y = L.Dense(2)(L.Flatten()(L.MaxPooling1D(4)(h)))
    model = randomize(keras.Model(x, y), seed=seed)
    model.save(folder / name)
    return folder / name, model
