"""What was measured, for people: pages for the browser, summaries for the terminal. Never imports torch."""

from unplateau.report.comparison import comparison_table, write_comparison
from unplateau.report.extractors import extractors_table
from unplateau.report.eyechart import eyechart_table, write_eyechart
from unplateau.report.page import write_report
from unplateau.report.ranking import ranking_table, write_ranking
from unplateau.report.reading import load as load_diagnosis
from unplateau.report.summary import curve_summary, scores_said, summary
from unplateau.report.upgrade import upgrade_table, write_upgrade

__all__ = [
    "comparison_table",
    "curve_summary",
    "extractors_table",
    "eyechart_table",
    "load_diagnosis",
    "ranking_table",
    "scores_said",
    "summary",
    "upgrade_table",
    "write_comparison",
    "write_eyechart",
    "write_ranking",
    "write_report",
    "write_upgrade",
]
