"""What was measured, for people: pages for the browser, summaries for the terminal. Never imports torch."""

from unplateau.report.comparison import comparison_table, write_comparison
from unplateau.report.page import write_report
from unplateau.report.summary import curve_summary, summary

__all__ = ["comparison_table", "curve_summary", "summary", "write_comparison", "write_report"]
