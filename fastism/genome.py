"""Sequences from FASTA files: stretches of a genome by their coordinates, or one whole sequence after the other.

pysam (htslib) reads genomes and dnaio reads sequences; both come with the `genome` extra and are imported when a
file is first opened.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from fastism.regions import Region
from fastism.sequences import one_hot, reverse_complement

_LOG = logging.getLogger(__name__)
_GAP = 1 << 16  # bytes between two sequences that are looked at
_END_OF_BGZIP = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


class UnknownChromosome(ValueError):
    """A region or variant is on a chromosome that the genome does not have; the message shows the names it has."""


class Genome:
    """A genome in a FASTA file, plain or compressed with bgzip, of which only what is asked for is read.

    Names of chromosomes may differ from the genome's by a ``chr`` in front, by upper and lower case, and by M for MT:
    such a name is resolved, if only one chromosome can be meant; :attr:`resolved` records it, and the first is logged.
    (The sequences behind chrM of hg19 and MT of GRCh37 do differ, whatever they are called.)

    An index (``.fai``, and ``.gzi`` for bgzip) beside the file is used if it is not older than the file. If there is
    none it is made there; if the folder cannot be written to, in the user's cache (``$XDG_CACHE_HOME/fastism``,
    ``~/.cache/fastism``); if that cannot be either, in a temporary folder that :meth:`close` removes.

    Use it as a context manager, or close it. An instance belongs to the thread that made it.

    Args:
        path: The FASTA file.

    Attributes:
        path: The FASTA file.
        lengths: For each chromosome its length in bp, in the file's order.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no FASTA file, has a name twice, is compressed with gzip instead of bgzip, or seems
            truncated.
        ImportError: If pysam is missing.

    Example:
        ::

            with Genome("hg38.fa.gz") as genome:
                x = genome.one_hot(Region("chr1", 100_000, 101_000))  # (1000, 4)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._file: Any = None
        self._temporary: Path | None = None
        if not self.path.exists():
            raise FileNotFoundError(f"There is no file {str(self.path)!r}; a FASTA file, plain or bgzip, is accepted.")
        kind = compression(self.path)
        if kind == "gzip":
            raise ValueError(
                f"{self.path} is compressed with gzip, of which no part can be read alone; a FASTA file that is plain "
                f"or compressed with bgzip is accepted. Run: gunzip -c {self.path.name} | bgzip > genome.fa.gz"
            )
        pysam = need("pysam")
        if _first_letter(self.path, kind) != b">":
            raise ValueError(f"{self.path} does not begin with '>'; a FASTA file is accepted.")
        try:
            with quiet():
                fai, gzi = self._index(kind == "bgzip")
                self._file = pysam.FastaFile(
                    str(self.path), filepath_index=str(fai), filepath_index_compressed=gzi and str(gzi)
                )
        except BaseException:
            self.close()
            raise
        self.lengths: Mapping[str, int] = MappingProxyType(
            dict(zip(self._file.references, self._file.lengths, strict=True))
        )
        twice = _hidden(self.path, fai, gzi, self.lengths)
        if twice is not None:
            self.close()
            raise _ambiguous(self.path, twice)
        self._alike: dict[str, list[str]] = {}
        for name in self.lengths:
            self._alike.setdefault(_plain(name), []).append(name)
        self._resolved: dict[str, str] = {}

    @property
    def resolved(self) -> Mapping[str, str]:
        """For each name that was asked for under another spelling, the chromosome that was read for it."""
        return MappingProxyType(self._resolved)

    def resolve(self, chrom: str) -> str:
        """The genome's own name of a chromosome.

        Raises:
            UnknownChromosome: If it has none of that name, or several that could be meant.
        """
        if chrom in self.lengths:
            return chrom
        if chrom not in self._resolved:
            alike = self._alike.get(_plain(chrom), [])
            if len(alike) != 1:
                names = ", ".join(list(self.lengths)[:8]) + (", ..." if len(self.lengths) > 8 else "")
                raise UnknownChromosome(
                    f"Chromosome {chrom!r} is not in {self.path.name}"
                    + (f", where {' and '.join(alike)} could both be meant" if alike else "")
                    + f"; of its {len(self.lengths)} the names {names} are accepted, and these with or without 'chr'. "
                    "Check that both files are of one assembly, or rename the chromosomes in one of them."
                )
            if not self._resolved:  # once for each genome: what holds for one name holds for the others
                _LOG.info("%s: %s is read for %s, and others alike.", self.path.name, alike[0], chrom)
            self._resolved[chrom] = alike[0]
        return self._resolved[chrom]

    def length(self, chrom: str) -> int:
        """The length of a chromosome in bp, under any name that :meth:`resolve` takes."""
        return self.lengths[self.resolve(chrom)]

    def overhang(self, region: Region) -> tuple[int, int]:
        """How many positions of a region lie before the chromosome's start and behind its end.

        Both count along the genome, whichever strand the region is on. They add up to the region's length where it
        lies outside altogether.

        Example:
            With a chromosome of 100 bp, ``Region("chr1", -5, 20)`` gives (5, 0), ``Region("chr1", 95, 102)`` (0, 2).
        """
        size = self.length(region.chrom)
        return min(max(0, -region.start), len(region)), min(max(0, region.end - size), len(region))

    def text(self, region: Region) -> str:
        """The letters of a region, in the file's own case; the reverse complement if it is on ``"-"``.

        Positions beyond the chromosome's ends are N.

        Raises:
            UnknownChromosome: If the genome does not have the chromosome.
            ValueError: If the region ends before it starts, the genome is closed, or the file does not fit its index.
        """
        if self._file is None:
            raise ValueError(f"The genome {self.path.name} was closed; read from it within its 'with' block.")
        if region.end < region.start:
            raise ValueError(f"The region {region} ends before it starts; start <= end is accepted.")
        left, right = self.overhang(region)
        inside = len(region) - left - right
        letters = ""
        if inside > 0:
            start = region.start + left
            try:
                with quiet():
                    letters = self._file.fetch(self.resolve(region.chrom), start, start + inside)
            except (OSError, ValueError):
                letters = ""
            if len(letters) != inside:
                raise ValueError(
                    f"{self.path} has {len(letters)} letters where its index promises {inside} ({region}); the file "
                    "was changed after the index was made, or is truncated. Remove the .fai and .gzi files beside it."
                )
        letters = "N" * left + letters + "N" * right
        return reverse_complement(letters) if region.strand == "-" else letters

    def one_hot(
        self, regions: Region | Iterable[Region], *, unknown: float = 0.0, dtype: Any = np.float32
    ) -> np.ndarray:
        """One-hot sequences of a region, or of several of one length, as :func:`fastism.sequences.one_hot` makes them.

        Args:
            regions: One, or as many as are to be in memory together.
            unknown: What stands in the columns at an N, another IUPAC letter, or beyond an end: 0, or 0.25.
            dtype: NumPy type of the array.

        Returns:
            (L, 4) for one region, (N, L, 4) for several, columns ACGT.

        Raises:
            UnknownChromosome: If the genome does not have a chromosome.
            ValueError: If lengths differ, a letter is neither a base nor one of IUPAC's, naming the region and the
                position in the direction of its strand, or as :meth:`text` does.
        """
        if isinstance(regions, Region):
            return one_hot(self.text(regions), unknown=unknown, dtype=dtype, names=str(regions))
        several = list(regions)
        for region in several:
            if len(region) != len(several[0]):
                raise ValueError(
                    f"The region {region} has {len(region)} positions and {several[0]} has {len(several[0])}; regions "
                    "of one length are accepted. Bring them to one length with fastism.bed.fit(region, length)."
                )
        texts = [self.text(region) for region in several]
        return one_hot(texts, unknown=unknown, dtype=dtype, names=[str(region) for region in several])

    def close(self) -> None:
        """Close the file; nothing can be read after that."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def __enter__(self) -> Genome:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Genome({str(self.path)!r}): {len(self.lengths)} sequences, {sum(self.lengths.values()):,} bp"

    def _index(self, bgzip: bool) -> tuple[Path, Path | None]:
        """The files of an index that fits: one that is there, or a new one."""
        status = self.path.stat()
        age = f"{self.path.resolve()}:{status.st_size}:{status.st_mtime_ns}"  # an old entry is never taken for a new
        name = f"{hashlib.sha256(age.encode()).hexdigest()[:16]}-{self.path.name}"
        for folder, stem in ((self.path.parent, self.path.name), (_cache(), name)):
            fai, gzi = folder / f"{stem}.fai", folder / f"{stem}.gzi" if bgzip else None
            if all(file.exists() and file.stat().st_mtime >= status.st_mtime for file in (fai, gzi) if file):
                return fai, gzi
        for folder, stem in ((self.path.parent, self.path.name), (_cache(), name)):
            if _writable(folder) and self._make_index(folder, stem, bgzip):
                return folder / f"{stem}.fai", folder / f"{stem}.gzi" if bgzip else None
        self._temporary = Path(tempfile.mkdtemp(prefix="fastism-"))
        if not self._make_index(self._temporary, name, bgzip):
            raise OSError(f"The index of {self.path} cannot be written: not beside it, nor to {_cache()}.")
        return self._temporary / f"{name}.fai", self._temporary / f"{name}.gzi" if bgzip else None

    def _make_index(self, folder: Path, stem: str, bgzip: bool) -> bool:
        """Write an index into a folder, complete or not at all; False if the folder does not take it."""
        pysam = need("pysam")
        try:
            draft = Path(tempfile.mkdtemp(prefix=".fastism-", dir=folder))
        except OSError:
            return False
        try:
            also = ("--gzi-idx", str(draft / "gzi")) if bgzip else ()
            try:
                pysam.faidx("--fai-idx", str(draft / "fai"), *also, str(self.path))
            except pysam.SamtoolsError as error:
                raise ValueError(
                    f"{self.path} cannot be indexed; a FASTA file is accepted: '>name' lines, and behind each its "
                    "sequence in lines of one width, of which only the last may be shorter. Lines of other widths "
                    "can be mended with: seqkit seq -w 60"
                ) from error
            for suffix in ("gzi", "fai") if bgzip else ("fai",):  # the .fai last: with it the index is there
                os.replace(draft / suffix, folder / f"{stem}.{suffix}")
        except OSError:
            return False
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return True


def read_fasta(path: str | os.PathLike[str]) -> Iterator[tuple[str, str]]:
    """The sequences of a FASTA file, one after the other; the file is never in memory.

    Args:
        path: A FASTA file, plain, gzip or bgzip, or ``"-"`` for the standard input.

    Yields:
        (name, text): the first word behind the ``>``, and the letters in the file's own case.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no FASTA file, or is truncated.
        ImportError: If dnaio is missing.
    """
    if str(path) != "-" and not Path(path).exists():
        raise FileNotFoundError(f"There is no file {str(path)!r}; a FASTA file, or '-', is accepted.")
    dnaio = need("dnaio")
    if str(path) != "-":
        compression(Path(path))
    return _records(dnaio, str(path))


def _records(dnaio: Any, path: str) -> Iterator[tuple[str, str]]:
    try:
        with dnaio.open(path, fileformat="fasta", open_threads=0) as file:
            for record in file:
                yield record.id, record.sequence
    except (dnaio.FileFormatError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error} A FASTA file is accepted, with '>name' before each sequence.") from error
    except (EOFError, zlib.error) as error:
        raise ValueError(f"{path} is truncated or damaged ({error}). Fetch or compress it again.") from error


def compression(path: str | os.PathLike[str]) -> Literal["plain", "gzip", "bgzip"]:
    """How a file is compressed, by its first bytes; what is not a regular file, such as a pipe, is called plain.

    Raises:
        ValueError: If a bgzip file lacks the block that marks its end.
    """
    path = Path(path)
    if not path.is_file():
        return "plain"
    with path.open("rb") as file:
        head = file.read(18)
        if head[:2] != b"\x1f\x8b":
            return "plain"
        if head[3:4] != b"\x04" or head[12:14] != b"BC":
            return "gzip"
        file.seek(max(0, file.seek(0, os.SEEK_END) - len(_END_OF_BGZIP)))
        if file.read() != _END_OF_BGZIP:
            raise ValueError(
                f"{path} is truncated: the block that marks the end of a bgzip file is missing. Fetch or make it "
                f"again. If it is known to be complete: gunzip -c {path.name} | bgzip > mended.gz"
            )
    return "bgzip"


def need(package: str) -> Any:
    """A package of the `genome` extra, imported when it is needed.

    Raises:
        ImportError: If it is missing.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise ImportError(
            f"fastism: {package} cannot be imported ({error}). Reading genomes, sequences and variants needs the "
            'genome extra: pip install "fastism[genome]".'
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep htslib from writing to the standard error: what goes wrong comes as an exception."""
    pysam = need("pysam")
    level = pysam.set_verbosity(0)
    try:
        yield
    finally:
        pysam.set_verbosity(level)


def _hidden(path: Path, fai: Path, gzi: Path | None, names: Collection[str]) -> str | None:
    """A name that a FASTA file has twice: an index passes over the second, which leaves a gap in it."""
    rows = sorted((line.split("\t") for line in fai.read_text().splitlines()), key=lambda row: int(row[2]))
    end = 0
    with _reader(path, gzi) as read:
        for row in [*rows, None]:
            start = None if row is None else int(row[2])
            found = read(end, _GAP if start is None else min(max(0, start - end), _GAP))
            header = found.lstrip()
            line = header.split(b"\n", 1)[0]
            behind = end + len(found) - len(header) + len(line) + 1  # where the sequence of this header begins
            name = (line[1:].split() or [b""])[0].decode("utf-8", "replace")
            if header.startswith(b">") and (start is None or behind < start) and name in names:
                return name
            if row is not None:
                length, each, width = int(row[1]), int(row[3]), int(row[4])
                end = int(row[2]) + (length // each * width + length % each if each else 0)
    return None


@contextmanager
def _reader(path: Path, gzi: Path | None) -> Iterator[Callable[[int, int], bytes]]:
    """A function that reads so many bytes from a place in a file, in its text where it is compressed with bgzip."""
    if gzi is None:
        with path.open("rb") as plain:
            yield lambda start, size: (plain.seek(start), plain.read(size))[1]
        return
    blocks = np.concatenate([np.zeros(2, "<u8"), np.fromfile(gzi, "<u8")[1:]]).reshape(-1, 2)  # in the file, the text
    with need("pysam").BGZFile(str(path), "rb") as packed:

        def read(start: int, size: int) -> bytes:
            at, first = blocks[int(np.searchsorted(blocks[:, 1], start, "right")) - 1].tolist()
            packed.seek(at << 16 | start - first)
            return packed.read(size)

        yield read


def _ambiguous(path: Path, name: str) -> ValueError:
    return ValueError(
        f"{path} has two sequences named {name!r}, of which an index finds the first only; a FASTA file of different "
        "names is accepted. Rename or remove one of them, and remove the .fai file beside it."
    )


def _first_letter(path: Path, kind: str) -> bytes:
    with gzip.open(path) if kind != "plain" else path.open("rb") as file:
        return file.read(64).lstrip()[:1]


def _plain(chrom: str) -> str:
    """A chromosome's name without what files differ in."""
    name = chrom.lower()
    name = name[3:] if name.startswith("chr") and len(name) > 3 else name
    return "m" if name == "mt" else name


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "fastism"


def _writable(folder: Path) -> bool:
    """Whether files may be added. A folder that nobody may write to is left alone even by an administrator."""
    try:
        if folder == _cache():
            folder.mkdir(parents=True, exist_ok=True)
        return bool(folder.stat().st_mode & 0o222) and os.access(folder, os.W_OK)
    except OSError:
        return False
