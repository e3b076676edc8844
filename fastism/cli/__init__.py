"""The command line: `fastism`. Each command is in a module that is imported when it is called."""

from __future__ import annotations

from importlib import import_module

import click

#: Command -> what the list of commands says of it.
COMMANDS = {
    "ism": "Map all substitutions of sequences (FASTA), or of regions of a genome (BED).",
    "variants": "Score the variants of a VCF.",
    "explain": "Say what a map would cost: plan, memory, output, time.",
    "plot": "Draw the map of one sequence of a result.",
    "report": "Write a result as one HTML page to browse.",
    "export": "Write a result for other tools: HDF5, npz, bigWig, tables.",
    "bench": "Time a model, naive and fast, on this machine.",
    "demo": "Train a small CNN on planted motifs and map it.",
}


class _Lazy(click.Group):
    """Commands that cost nothing until they are called: the frameworks take seconds to import."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they are used."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported."""
        if cmd_name not in COMMANDS:
            return None
        return getattr(import_module(f"fastism.cli.{cmd_name}"), cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What each command does, without importing it."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fastism", prog_name="fastism")
def main() -> None:
    """Fast, exact in-silico mutagenesis of Keras sequence models.

    \b
    fastism ism -m model.keras -g genome.fa -r peaks.bed -o peaks.zarr
    fastism report peaks.zarr
    fastism export peaks.zarr --format modisco

    Each command says more with --help. Shell completion: eval "$(_FASTISM_COMPLETE=bash_source fastism)" (zsh_source,
    fish_source).
    """


def run() -> None:
    """What the command ``fastism`` calls."""
    from fastism.cli.quiet import keep_quiet

    keep_quiet()
    main(prog_name="fastism")
