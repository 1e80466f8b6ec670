"""Progress: a bar on a terminal, a line a training in a log, nothing but the sentence where it ends in an error."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from unplateau.progress import Bar


def test_a_log_gets_a_line_for_each_training():
    log = StringIO()
    with Bar(Console(file=log)) as told:
        told(1, 12, "colour")
        told(2, 12, "reach [D/2]")
    assert log.getvalue().splitlines() == ["1 of 12: trained colour (0:00)", "2 of 12: trained reach [D/2] (0:00)"]


def test_a_terminal_gets_a_bar():
    log = StringIO()
    with Bar(Console(file=log, force_terminal=True, width=100)) as told:
        told(3, 12, "colour")
    assert "3/12" in log.getvalue()
    assert "\x1b" in log.getvalue()


def test_an_error_goes_through():
    with pytest.raises(ValueError, match="no"), Bar(Console(file=StringIO())):
        raise ValueError("no")
