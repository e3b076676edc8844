"""`fastism variants`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click

from fastism.cli import shared
from fastism.cli.outputs import check_free

ENDINGS = (".tsv", ".tsv.gz", ".parquet", ".vcf", ".vcf.gz", ".bcf")
COLUMNS = "columns chromosome, position (from 1), ref, alt and a name, separated by tabs,"


@click.command(cls=shared.Command)
@shared.model
@click.option("-g", "--genome", required=True, type=click.Path(exists=True, dir_okay=False), help="Genome, FASTA.")
@click.option(
    "-v", "--vcf", required=True, type=click.Path(exists=True, dir_okay=False), help="Variants: VCF, BCF or a table."
)
@click.option("-o", "--output", required=True, type=click.Path(), help=f"Scores: {', '.join(ENDINGS)}.")
@shared.outputs
@click.option("--stats", default="subtract", callback=shared.names, help="Metrics, such as logSUM,jsd.  [subtract]")
@click.option(
    "--side", type=click.Choice(["left", "right"]), default="right", help="Side of an indel that moves.  [right]"
)
@click.option("--sequence-length", type=click.IntRange(1), help="For a model that takes any length.")
@shared.ensemble
@shared.running
@click.option("--strict", is_flag=True, help="Stop where the reference allele is not the genome's.")
@click.option("--overwrite", is_flag=True, help="Replace a file that is there.")
def variants(**given: Any) -> None:
    """Score the variants of a VCF.

    \b
    fastism variants -m model.keras -g hg38.fa -v variants.vcf.gz -o scores.tsv
    fastism variants -m chrombpnet.keras -g hg38.fa -v variants.vcf.gz -o scores.vcf.gz --head 0 --stats logSUM,jsd

    Each variant stands in the middle of a window of the model's length; both alleles are predicted. A reference allele
    that is not the genome's is kept, flagged (ref_match) and counted.
    """
    output = Path(given["output"])
    ending = next((e for e in sorted(ENDINGS, key=len, reverse=True) if output.name.lower().endswith(e)), None)
    if ending is None:
        raise click.BadParameter(f"{output.name} is no file that ends in {', '.join(ENDINGS)}.", param_hint="--output")
    beside = [Path(f"{output}.json")] if ending.startswith(".tsv") else []
    check_free([output, *beside], given["overwrite"])
    from tqdm.auto import tqdm

    from fastism import writers
    from fastism.genome import Genome
    from fastism.pipeline import NothingLeft
    from fastism.regions import Report
    from fastism.variant_scorer import VariantScorer, score_variants
    from fastism.vcf import is_vcf, unplaceable

    scorer = VariantScorer(
        shared.load(given["models"], given["custom"], given["unsafe_lambda"]),
        shared.metrics(given["stats"], given["pseudocount"]),
        output=shared.head(given["head"]),
        targets=given["targets"],
        target_names=given["target_names"],
        rc=given["rc"],
        shifts=given["shifts"],
        strand_pairs=given["strand_pairs"],
        length=given["sequence_length"],
        **shared.engine_options(given["batch_size"], given["memory"]),
    )
    report, begun = Report("variants"), time.perf_counter()

    def batches() -> Iterator[dict[str, Any]]:
        found = score_variants(
            scorer, given["genome"], given["vcf"], report, side=given["side"], strict=given["strict"]
        )
        total = _count(given["vcf"]) if given["progress"] else None
        with tqdm(total=total, unit="variants", desc="FastISM", disable=not given["progress"]) as bar:
            for batch in found:
                yield batch
                bar.update(len(batch["pos"]))
            bar.total = bar.n  # without those that had no place
        if not report.kept:
            raise NothingLeft(report)  # within the writing, so that no file is left

    about = scorer.attributes(
        genome=Path(given["genome"]).name,
        variants=Path(given["vcf"]).name,
        side=given["side"],
        **shared.hashes(given["models"]),
    )
    try:
        if ending == ".parquet":
            writers.write_parquet(output, batches(), metadata=about)
        elif ending.startswith(".tsv"):
            writers.write_tsv(
                output,
                batches(),
                metadata=lambda: {**about, "rows": report.rows, "skipped": report.skipped, "flagged": report.flagged},
            )
        else:
            with Genome(given["genome"]) as genome:
                if is_vcf(given["vcf"]):
                    reason = partial(unplaceable, length=scorer.length, genome=genome, side=given["side"])
                    writers.write_vcf(output, batches(), template=given["vcf"], metadata=about, reason=reason)
                else:
                    writers.write_vcf(output, batches(), contigs=genome.lengths, metadata=about)
    except NothingLeft as error:
        click.echo(str(report), err=True)
        if "malformed row" in report.skipped:
            click.echo(f"{given['vcf']} is no VCF or BCF, and was read as a table: {COLUMNS} are accepted.", err=True)
        click.echo("Error: No variant is left to score: all were left out, or there were none.", err=True)
        raise click.exceptions.Exit(shared.NOTHING_DONE) from error
    click.echo(str(report))
    click.echo(f"{output}: {report.kept} variants in {shared.duration(time.perf_counter() - begun)}")


def _count(path: str) -> int | None:
    """How many variants a file has; None for a pipe, which can be read only once."""
    from fastism.regions import Report
    from fastism.vcf import read_variants

    return sum(1 for _ in read_variants(path, report=Report("variants"))) if Path(path).is_file() else None
