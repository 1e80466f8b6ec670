"""The verbs. The command line says the same words with the same names."""

from unplateau.verbs.answer import calibrate, predict
from unplateau.verbs.diagnose import DIAGNOSIS, REPORT, curve, diagnose, report
from unplateau.verbs.distil import distil
from unplateau.verbs.extractors import extractors
from unplateau.verbs.eyechart import CHART_PAGE, eyechart
from unplateau.verbs.pretrain import pretrain
from unplateau.verbs.rank import RANK_PAGE, rank
from unplateau.verbs.train import TABLE, compare, loaded, train
from unplateau.verbs.upgrade import PAGE, upgrade

__all__ = [
    "CHART_PAGE",
    "DIAGNOSIS",
    "PAGE",
    "RANK_PAGE",
    "REPORT",
    "TABLE",
    "calibrate",
    "compare",
    "curve",
    "diagnose",
    "distil",
    "extractors",
    "eyechart",
    "loaded",
    "predict",
    "pretrain",
    "rank",
    "report",
    "train",
    "upgrade",
]
