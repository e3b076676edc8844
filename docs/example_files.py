"""The files that the pages read: two models that know one motif, a genome with copies of it, peaks and variants.

    python docs/example_files.py FOLDER

Nothing is trained: the first layer of the models holds the motif, put there by hand, beside filters of noise. What the
pages compute and draw from these files is what fastism makes of any model.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import keras
import numpy as np
from keras import layers

from fastism.demo import MOTIF

LENGTH, CHROMOSOME, WIDTH = 1000, 5000, 15
SHARE = 0.8  # of the motif's letters, by weight, that a copy must have to be seen
WORSE = (0.0, 0.3, 0.7)  # of a letter's weight, what each of the others counts against the motif
OTHER = str.maketrans("ACGT", "TGCA")
#: Where motifs begin in the genome, and on which strand.
SITES = ((1088, "+"), (1116, "-"), (143, "-"), (2490, "+"), (3597, "-"), (3620, "-"))
PEAKS = (
    ("chr1", 1000, 1200, "two_motifs", 0, "+"),
    ("chr1", 50, 250, "at_the_end", 0, "-"),
    ("chr1", 2400, 2600, "one_motif", 0, "+"),
    ("chr1", 3500, 3720, "other_strand", 0, "-"),
    ("chr1", 4200, 4400, "no_motif", 0, "+"),
    ("chr2", 100, 300, "not_in_the_genome", 0, "+"),
)


def write(folder: Path) -> None:
    """Write three models, a genome with the lengths of its chromosomes, peaks, and variants, plain and compressed."""
    with_motif(seed=1).save(folder / "model.keras")
    with_motif(seed=2).save(folder / "other.keras")
    profile_of_motif().save(folder / "profile.keras")
    text = genome()
    lines = [text[i : i + 60] for i in range(0, CHROMOSOME, 60)]
    (folder / "genome.fa").write_text("\n".join([">chr1", *lines, ""]))
    (folder / "peaks.bed").write_text("".join("\t".join(map(str, peak)) + "\n" for peak in PEAKS))
    changed = 1097  # a G of the motif's middle, 0-based
    rows = [
        (changed + 1, text[changed], "T"),
        (2501, text[2500:2503], text[2500]),
        (4301, text[4300], "ACGT"[text[4300] == "A"]),
    ]
    head = [
        "##fileformat=VCFv4.2",
        f"##contig=<ID=chr1,length={CHROMOSOME}>",
        "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO",
    ]
    body = [f"chr1\t{at}\t.\t{ref}\t{alt}\t.\t.\t." for at, ref, alt in rows]
    (folder / "variants.vcf").write_text("\n".join([*head, *body, ""]))
    if find_spec("pysam"):
        import_module("pysam").tabix_compress(str(folder / "variants.vcf"), str(folder / "variants.vcf.gz"), force=True)
    (folder / "genome.sizes").write_text(f"chr1\t{CHROMOSOME}\n")


def genome() -> str:
    """5000 random bp with copies of the motif."""
    letters = np.random.default_rng(0).choice(list("ACGT"), CHROMOSOME)
    for start, strand in SITES:
        letters[start : start + len(MOTIF)] = list(MOTIF if strand == "+" else MOTIF[::-1].translate(OTHER))
    return "".join(letters)


def detectors(rng: np.random.Generator, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights of a first layer: the motif, the motif on the other strand, six filters of noise."""
    weights = np.zeros((WIDTH, 4, 8))
    worth = rng.uniform(0.4, 1.6, len(MOTIF))
    order = np.random.default_rng(0)  # which letters are worse is the same in all models
    for i, letter in enumerate(MOTIF):
        here = "ACGT".index(letter)
        weights[i, np.delete(range(4), here), 0] = -worth[i] * order.permutation(WORSE)
        weights[i, here, 0] = worth[i]
    weights[: len(MOTIF), :, 1] = weights[: len(MOTIF), :, 0][::-1, ::-1]
    weights[..., 2:] = rng.normal(0, noise, (WIDTH, 4, 6))
    biases = np.zeros(8)
    biases[:2] = -SHARE * worth.sum()
    return weights, biases


def with_motif(seed: int) -> keras.Model:
    """(1000, 4) to one number: more for each motif, and more again for two that are near each other."""
    rng = np.random.default_rng(seed)
    sequence = keras.Input((LENGTH, 4))
    first = layers.Conv1D(8, WIDTH, padding="same", activation="relu")
    second = layers.Conv1D(8, 9, padding="same", activation="relu")
    last = layers.Dense(1)
    h = second(layers.MaxPooling1D(5)(first(sequence)))
    model = keras.Model(sequence, last(layers.GlobalAveragePooling1D()(h)))
    weights, biases = detectors(rng, noise=0.1)
    first.set_weights([weights, biases])
    weights = rng.normal(0, 0.02, (9, 8, 8))
    weights[4, :2, 0] = 1  # a motif
    weights[:, :2, 1] = 1  # motifs within 45 bp, of which one alone does not reach the threshold
    weights[:, :2, 2:] = 0
    threshold = np.zeros(8)
    threshold[1] = 1.1 * -biases[0] * (1 - SHARE) / SHARE
    second.set_weights([weights, -threshold])
    shares = rng.normal(0, 30, (8, 1))
    shares[:2, 0] = 60, 30
    last.set_weights([shares, np.ones(1)])  # above zero, as counts are
    return model


def profile_of_motif() -> keras.Model:
    """(1000, 4) to a profile (1000,): a footprint with two shoulders at each motif."""
    sequence = keras.Input((LENGTH, 4))
    first = layers.Conv1D(8, WIDTH, padding="same", activation="relu")
    second = layers.Conv1D(1, 101, padding="same", activation="softplus")
    model = keras.Model(sequence, layers.Reshape((LENGTH,))(second(first(sequence))))
    weights, biases = detectors(np.random.default_rng(1), noise=0.1)
    first.set_weights([weights, biases])
    at = np.arange(-50, 51)
    shape = np.exp(-0.5 * ((np.abs(at) - 20) / 9) ** 2)
    second.set_weights([np.where(np.arange(8) < 2, shape[:, None], 0.004)[..., None], -np.ones(1)])
    return model


if __name__ == "__main__":
    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    write(Path(sys.argv[1]))
