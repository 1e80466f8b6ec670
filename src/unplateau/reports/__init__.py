"""What was measured, for people: pages for the browser, summaries for the terminal. Never imports torch."""

from unplateau.reports.comparison import comparison_table, write_comparison
from unplateau.reports.extractors import extractors_table
from unplateau.reports.eyechart import eyechart_table, write_eyechart
from unplateau.reports.page import write_report
from unplateau.reports.ranking import ranking_table, write_ranking
from unplateau.reports.reading import load as load_diagnosis
from unplateau.reports.summary import curve_summary, scores_said, summary
from unplateau.reports.upgrade import upgrade_table, write_upgrade

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
