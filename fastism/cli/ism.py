"""`fastism ism`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from fastism.cli import shared


@click.command(cls=shared.Command)
@shared.model
@click.option("-g", "--genome", type=click.Path(exists=True, dir_okay=False), help="Genome, FASTA (plain or bgzip).")
@click.option(
    "-r", "--regions", type=click.Path(exists=True, dir_okay=False), help="Regions of the genome, BED or narrowPeak."
)
@click.option("-f", "--fasta", type=click.Path(exists=True, dir_okay=False), help="Sequences instead, FASTA.")
@click.option("-o", "--output", required=True, type=click.Path(), help="Result, a folder ending in .zarr.")
@shared.outputs
@click.option(
    "--metric",
    default="subtract",
    help="What is compared: subtract, log2FC, logSUM, counts, profile, jsd ...  [subtract]",
)
@click.option("-l", "--mutated-length", type=click.IntRange(1), help="Central positions to mutate; all.")
@click.option("-u", "--up", type=click.IntRange(0), help="Positions to mutate upstream of the centre.")
@click.option("-d", "--down", type=click.IntRange(0), help="Positions to mutate downstream of the centre.")
@click.option(
    "--centre",
    type=click.Choice(["auto", "middle", "summit"]),
    default="auto",
    help="Of a region: its middle, or a narrowPeak's summit; auto takes the summit where there is one.  [auto]",
)
@click.option(
    "--edge", type=click.Choice(["pad", "drop"]), default="pad", help="Over a chromosome's end: N, or leave out.  [pad]"
)
@click.option("--unknown", type=click.Choice(["0", "0.25"]), default="0", help="What stands for an N.  [0]")
@click.option("--sequence-length", type=click.IntRange(1), help="For a model that takes any length.")
@shared.ensemble
@shared.running
@click.option("--strict", is_flag=True, help="Stop at the first row that cannot be read instead of leaving it out.")
@click.option("--resume", is_flag=True, help="Go on with a result that was interrupted.")
@click.option("--overwrite", is_flag=True, help="Replace a result that is there.")
def ism(**given: Any) -> None:
    """Map all substitutions of sequences, or of regions of a genome.

    \b
    fastism ism -m model.keras -g hg38.fa -r peaks.bed -o peaks.zarr
    fastism ism -m model.keras -f sequences.fa -o sequences.zarr -t 3 --rc
    fastism ism -m chrombpnet.h5 -g hg38.fa -r peaks.narrowPeak -o counts.zarr --head 1 --metric counts -l 500

    The result opens in Python with fastism.store.open_scores, and goes on with fastism plot, report and export. It ends
    with an account of every row, done or left out and why. Exit code 3: no row was left.
    """
    genome, regions, fasta = given["genome"], given["regions"], given["fasta"]
    by_region = genome is not None and regions is not None and fasta is None
    if not by_region and (fasta is None or genome or regions):
        raise click.UsageError("Give either --genome and --regions, or --fasta.")
    if Path(given["output"]).suffix != ".zarr":
        raise click.BadParameter(f"{given['output']} does not end in .zarr.", param_hint="--output")
    from fastism.pipeline import NothingLeft, map_fasta, map_regions
    from fastism.scorer import Scorer, central
    from fastism.vcf import is_vcf

    if by_region and is_vcf(str(regions)):
        raise click.BadParameter(f"{regions} holds variants; fastism variants -v takes it.", param_hint="--regions")

    models = shared.load(given["models"], given["custom"], given["unsafe_lambda"])
    first, last = central(models[0], given["mutated_length"], given["up"], given["down"], given["sequence_length"])
    (metric,) = shared.metrics([given["metric"]], given["pseudocount"])
    scorer = Scorer(
        models,
        metric,
        output=shared.head(given["head"]),
        targets=given["targets"],
        target_names=given["target_names"],
        start=first,
        end=last,
        rc=given["rc"],
        shifts=given["shifts"],
        strand_pairs=given["strand_pairs"],
        length=given["sequence_length"],
        **shared.engine_options(given["batch_size"], given["memory"]),
    )
    options = {k: given[k] for k in ("strict", "resume", "overwrite", "progress")}
    options |= {"unknown": float(given["unknown"]), "attributes": shared.hashes(given["models"])}
    begun = time.perf_counter()
    try:
        if by_region:
            scores, report = map_regions(
                scorer,
                str(genome),
                str(regions),
                given["output"],
                centre=given["centre"],
                edge=given["edge"],
                **options,
            )
        else:
            scores, report = map_fasta(scorer, str(fasta), given["output"], **options)
    except NothingLeft as error:
        click.echo(str(error.report), err=True)
        click.echo(f"Error: {error}", err=True)
        raise click.exceptions.Exit(shared.NOTHING_DONE) from error
    seconds = time.perf_counter() - begun
    mutants = len(scores) * scores.positions * (len(scores.alphabet) - 1) * max(1, len(scorer))
    click.echo(str(report))
    click.echo(
        f"{given['output']}: {len(scores)} sequences x {scores.positions} positions x {len(scores.targets)} targets, "
        f"metric {scorer.metric.name}, in {shared.duration(seconds)} ({mutants / seconds:,.0f} mutants a second)"
    )
