"""One HTML page for a result: hundreds of regions to look through, in any browser, from disk, without a network."""

from fastism.report.page import ReportSummary, write_report

__all__ = ["ReportSummary", "write_report"]
