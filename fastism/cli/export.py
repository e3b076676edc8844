"""`fastism export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fastism.cli import outputs, shared

#: Name -> what it is for.
FORMATS = {
    "hdf5": "hyp_scores, input_seqs, coordinates: modisco -i, bpnet",
    "bpreveal": "the same with BPReveal's integer chromosomes",
    "chrombpnet": "raw, shap and projected_shap: chrombpnet, FiNeMo",
    "modisco": ".ohe.npz and .attr.npz: modisco -s -a",
    "basenji": "scores.h5 of differences",
    "bigwig": "a value for each base, for genome browsers (needs --chrom-sizes)",
    "bed": "the regions that were kept",
    "tsv": "a long table of differences",
}

#: Name -> endings of the files that it writes.
ENDINGS: dict[str, tuple[str, ...]] = {
    "hdf5": (".h5", "_regions.bed"),
    "bpreveal": (".bpreveal.h5", ".bpreveal_regions.bed"),
    "chrombpnet": (".chrombpnet.h5", ".chrombpnet_regions.bed"),
    "modisco": (".ohe.npz", ".attr.npz", "_regions.bed"),
    "basenji": (".scores.h5",),
    "bigwig": (".bw", ".bw.json"),
    "bed": ("_kept.bed",),
    "tsv": (".tsv.gz",),
}


@click.command(cls=shared.Command, epilog="Formats: " + "; ".join(f"{k} ({v})" for k, v in FORMATS.items()) + ".")
@click.argument("result", type=click.Path(exists=True))
@click.option(
    "--format", "formats", multiple=True, type=click.Choice(list(FORMATS)), required=True, help="Can be repeated."
)
@click.option("-o", "--output", type=click.Path(), help="Start of the files' names; the result's own name.")
@click.option("-t", "--target", help="Name or index of the target; the first.")
@click.option(
    "--rule",
    type=click.Choice(["mean4", "mean3"]),
    default="mean4",
    help="How differences become attributions.  [mean4]",
)
@click.option("-c", "--chrom-sizes", type=click.Path(exists=True, dir_okay=False), help="For bigWig: name and length.")
@outputs.overwrite
def export(result: str, formats: tuple[str, ...], output: str | None, **given: Any) -> None:
    """Write a result for other tools.

    \b
    fastism export peaks.zarr --format modisco --format bigwig -c hg38.chrom.sizes
    modisco motifs -s peaks.ohe.npz -a peaks.attr.npz -n 2000 -o modisco.h5
    """
    from fastism import writers
    from fastism.store import open_scores

    if "bigwig" in formats and given["chrom_sizes"] is None:
        raise click.UsageError("--format bigwig needs --chrom-sizes: a file of chromosome names and lengths.")
    scores = open_scores(result)
    target = scores.target(given["target"] if given["target"] is not None else 0)
    stem, rule = Path(output) if output else Path(result.rstrip("/")).with_suffix(""), given["rule"]

    def named(ending: str) -> Path:
        return stem.with_name(stem.name + ending)

    def written(name: str) -> list[Path]:
        return [named(e) for e in ENDINGS[name] if scores.regions is not None or not e.endswith("_regions.bed")]

    outputs.check_free(dict.fromkeys(path for name in formats for path in written(name)), given["overwrite"])
    for name in formats:
        path = named(ENDINGS[name][0]) if name != "modisco" else stem
        if name in ("hdf5", "bpreveal", "chrombpnet"):
            layout = "bpnet" if name == "hdf5" else name
            writers.write_hdf5(path, scores, target=target, rule=rule, layout=layout)
        elif name == "modisco":
            writers.write_npz(path, scores, target=target, rule=rule)
        elif name == "basenji":
            writers.write_basenji(path, scores)
        elif name == "bigwig":
            sizes = writers.read_chrom_sizes(given["chrom_sizes"])
            writers.write_bigwig(path, scores, sizes, target=target, rule=rule)
        elif name == "bed":
            writers.write_regions_bed(path, scores)
        else:
            writers.write_tsv(path, writers.long_table(scores))
        click.echo(f"{name}: {', '.join(map(str, written(name)))}")
