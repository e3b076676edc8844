"""Files and objects for other tools, all from one :class:`fastism.result.ISMScores`, written in batches.

A file appears under its name when it is whole. Libraries beside NumPy and h5py are imported when they are needed.
"""

from fastism.writers.bed import write_regions_bed
from fastism.writers.bigwig import read_chrom_sizes, write_bigwig
from fastism.writers.frames import long_table, to_anndata, to_pandas, to_xarray
from fastism.writers.hdf5 import write_basenji, write_hdf5
from fastism.writers.npz import write_npz
from fastism.writers.tables import write_parquet, write_tsv
from fastism.writers.vcf import write_vcf

__all__ = [
    "long_table",
    "read_chrom_sizes",
    "to_anndata",
    "to_pandas",
    "to_xarray",
    "write_basenji",
    "write_bigwig",
    "write_hdf5",
    "write_npz",
    "write_parquet",
    "write_regions_bed",
    "write_tsv",
    "write_vcf",
]
