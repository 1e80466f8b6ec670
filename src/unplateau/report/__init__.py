"""A saved diagnosis for people: one page for the browser, one summary for the terminal. Never imports torch."""

from unplateau.report.page import write_report
from unplateau.report.summary import curve_summary, summary

__all__ = ["curve_summary", "summary", "write_report"]
