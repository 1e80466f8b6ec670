"""What a remedy comes to: the pieces that it names, built around the same decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from unplateau.decoders.catalogue import build_decoder
from unplateau.errors import PieceError, UnplateauError, nearest
from unplateau.experiments.comparison import BETTER, UNTOLD, WORSE, Comparison, Contest, data_facts, method
from unplateau.experiments.trials import larger, stronger
from unplateau.experiments.ways import Pieces, Way, prevailing
from unplateau.extractors.catalogue import brings_weights, build_extractor
from unplateau.extractors.context import context_name
from unplateau.extractors.fused import FROZEN, PRETRAINED, TRAINABLE, fused_name, is_fused, part_said
from unplateau.types import Interval, Pictures

RICHER, CONTEXT, LARGER, STRONGER = "richer-pretraining", "more-context", "larger-extractor", "stronger-decoder"

OF_PIECES = (RICHER, CONTEXT, LARGER, STRONGER)
"""Remedies that are another extractor or another decoder."""

NOT_OF_PIECES = {
    "train-longer": "train again with more `steps`",
    "rebalance": "train with `class_weights` 'auto' and a Dice term in `loss`",
    "move-threshold": "decide at the threshold that diagnosis.json names under `operating_point`",
    "more-data": "gather and label more groups like those it has",
    "relabel": "put right the masks that the finding 'labels' names",
    "finer-resolution": "diagnose and train at twice the `size`",
    "fix-training": "train with the part put right that the finding 'one-batch overfit' names",
    "fix-normalisation": "name the extractor with the rule after it that the finding 'normalisation' names",
}
"""What to do about the others."""

MEND = "mend the data as the evidence of that remedy says"
"""What to do about a `fix-` of any kind."""

FALLS_SHORT = {
    RICHER: "what the candidate adds to networks trained from scratch it does not add to this baseline in so few "
    "steps, or its supply does not meet what this task demands: try another candidate, or it alone",
    CONTEXT: "seeing the whole image is not enough to use it: more groups or a pretrained extractor must say what to "
    "look for",
    LARGER: "the size of the extractor is not what holds the IoU",
    STRONGER: "the decoder is not what holds the IoU: what it needs is not in the characteristics",
}
"""What it implies that a gain stayed below its prediction."""


def built(remedy: str, baseline: Pieces, candidate: str | None, *, alone: bool) -> Pieces:
    """The pieces that `remedy` names, with the decoder of `baseline` unless the decoder is the remedy.

    `candidate` is the extractor trained elsewhere, a name or a file: fused with the baseline's, or `alone`. It stays
    frozen unless "trainable:" stands before it.

    Raises:
        UnplateauError: no such remedy, one that changes no piece, or one that needs what is not there.
    """
    refuse_remedy(remedy)
    if remedy == RICHER:
        return _richer(baseline, candidate, alone=alone)
    if remedy == CONTEXT:
        return _wider(baseline)
    if remedy == STRONGER:
        return _changed(baseline, *stronger(baseline.extractor, baseline.decoder))
    size = larger(baseline.extractor)
    if size is None:
        raise UnplateauError(
            f"{LARGER!r} must know the next size of the extractor; of {baseline.extractor!r} it knows none. Take "
            "another `remedy`, or diagnose with a larger `baseline`."
        )
    return _changed(baseline, size, baseline.decoder)


def ways_to(remedy: str, baseline: Pieces, candidate: str | None, *, alone: bool) -> tuple[Pieces, ...]:
    """The ways to build `remedy`, the cheapest to use first: more than one only for a candidate of which nothing is
    said. It is trained in the baseline's place, or fused as `built` does; the fusion runs it too, and the baseline's.

    Raises:
        UnplateauError: as `built`.
    """
    made = built(remedy, baseline, candidate, alone=alone)
    if remedy != RICHER or alone or not candidate or part_said(candidate).frozen is not None:
        return (made,)
    instead = built(remedy, baseline, f"{TRAINABLE}{candidate}", alone=True)
    same = brings_weights(baseline.extractor) and replace(instead, pretrained=False) == baseline
    return (made,) if same else (instead, made)


def refuse_remedy(remedy: str) -> None:
    """Refuse what is no remedy, and what is none of pieces, with what to do instead.

    Raises:
        UnplateauError: either of these.
    """
    if remedy in OF_PIECES:
        return
    if remedy not in NOT_OF_PIECES and not remedy.startswith("fix-"):
        known = nearest(remedy, {*OF_PIECES, *NOT_OF_PIECES})
        raise UnplateauError(f"`remedy` must be one that a diagnosis can name; got {remedy!r}: {known}")
    raise UnplateauError(
        f"An upgrade is another extractor or decoder, and {remedy!r} is neither: "
        f"{NOT_OF_PIECES.get(remedy, MEND)}, or name one of {', '.join(OF_PIECES)} as `remedy`."
    )


def refuse_pieces(pieces: Pieces) -> None:
    """Refuse pieces that do not fit together.

    Raises:
        PieceError: no such piece, or a decoder that cannot read this extractor.
    """
    build_decoder(pieces.decoder, build_extractor(pieces.extractor, pretrained=pieces.pretrained).gives, 1)


def fits_together(pieces: Pieces) -> bool:
    """Whether a way that nobody named can be tried: a decoder may not read the strides of the candidate alone."""
    try:
        refuse_pieces(pieces)
    except PieceError:
        return False
    return True


def _richer(baseline: Pieces, candidate: str | None, *, alone: bool) -> Pieces:
    if not candidate:
        raise UnplateauError(
            f"{RICHER!r} needs an extractor trained elsewhere, and the diagnosis was given none. Name a file or a "
            "network as `extractor`."
        )
    if alone:
        part = part_said(candidate)
        return Pieces(part.name, baseline.decoder, frozen=part.frozen is not False, pretrained=True)
    own, other = _as_it_was(baseline), candidate if brings_weights(candidate) else f"{PRETRAINED}{candidate}"
    return Pieces(fused_name(own, other), baseline.decoder)


def _wider(baseline: Pieces) -> Pieces:
    """What sees the whole image: a network in the baseline's place, or around it where it brings weights to keep."""
    if is_fused(baseline.extractor) or brings_weights(baseline.extractor):
        return Pieces(context_name(_as_it_was(baseline)), baseline.decoder)
    return _changed(baseline, "unet", baseline.decoder)


def _as_it_was(baseline: Pieces) -> str:
    """The baseline's extractor as a part that is trained where it was trained and still where it was still."""
    if is_fused(baseline.extractor):
        return baseline.extractor
    if baseline.frozen:
        return f"{FROZEN}{baseline.extractor}"
    return f"{TRAINABLE}{baseline.extractor}" if brings_weights(baseline.extractor) else baseline.extractor


def _changed(baseline: Pieces, extractor: str, decoder: str) -> Pieces:
    made = Pieces(extractor, decoder, baseline.frozen)
    if made == baseline:
        raise UnplateauError(
            f"`remedy` must change the pieces; the baseline has {extractor!r} under {decoder!r} already. Take another."
        )
    return made


# ---- what came of it -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Foretold:
    """What the diagnosis said of a remedy: its predicted gain, None where it had not measured it; for which candidate;
    and whether it listed it.
    """

    remedy: str
    gain: Interval | None
    candidate: str
    listed: bool


def covers(predicted: Interval | None, achieved: Interval) -> bool | None:
    """Whether the predicted interval holds the achieved gain; None where nothing was predicted."""
    if predicted is None or not math.isfinite(predicted.low):
        return None
    return predicted.low <= achieved.mean <= predicted.high


def upgrade_conclusion(
    foretold: Foretold, pieces: Pieces, achieved: Interval, verdict: str, ways: Sequence[Way] = ()
) -> str:
    """What came of the upgrade, and of the prediction; of several `ways`, which was taken."""
    said = [
        {
            BETTER: f"The upgrade adds {achieved:+.3f} IoU to the baseline.",
            WORSE: f"The upgrade costs the baseline {achieved:+.3f} IoU.",
        }.get(verdict, f"No gain of the upgrade can be told: {_as_known(achieved)}.")
    ]
    said.append(_of_prediction(foretold, achieved))
    if verdict == WORSE and FALLS_SHORT[foretold.remedy] not in said[-1]:
        said.append(f"Keep the baseline: {FALLS_SHORT[foretold.remedy]}.")
    if not foretold.listed:
        said.append(
            f"The diagnosis had advised against it, {'wrongly' if verdict == BETTER else 'and nothing was gained'}."
        )
    if foretold.gain and foretold.remedy == RICHER and foretold.candidate not in pieces.extractor:
        said.append(f"The prediction was made for another candidate, {foretold.candidate!r}.")
    return " ".join([*said, _of_ways(ways)] if ways else said)


def _as_known(achieved: Interval) -> str:
    """The gain with its interval, or without where a single group reports, which has none."""
    if math.isfinite(achieved.low):
        return f"{achieved:+.3f} IoU"
    return f"{achieved.mean:+.3f} IoU on the one group that reports, which leaves no interval"


def _of_ways(ways: Sequence[Way]) -> str:
    """Which way was taken, what the images that choose said of each, and what asking them cost."""
    first, folds = prevailing(ways), sum(len(way.folds) for way in ways)
    where = "" if len(first.folds) == folds else f" in {len(first.folds)} of {folds} folds"
    each = ", ".join(f"{_named(way.pieces)} {way.inner:.3f} ({way.seconds:.0f} s a training)" for way in ways)
    spare = sum(way.seconds * (folds - len(way.folds)) for way in ways)
    return (
        f"Of two ways to use the candidate the images that choose took {_named(first.pieces)}{where}. IoU on them: "
        f"{each}; the fusion, dearer to use, is taken only where it is surely better. Trying what was not taken cost "
        f"{spare:.0f} s."
    )


def _named(pieces: Pieces) -> str:
    """A way to use the candidate, which is "it"."""
    return "its fusion with the baseline's extractor" if is_fused(pieces.extractor) else "it, in the baseline's place"


def _of_prediction(foretold: Foretold, achieved: Interval) -> str:
    predicted, covered = foretold.gain, covers(foretold.gain, achieved)
    if predicted is None or covered is None:
        return "The diagnosis had predicted nothing of it."
    if covered:
        return f"The prediction, {predicted:+.3f}, holds that."
    if achieved.mean > predicted.high:
        return f"That is more than the prediction, {predicted:+.3f}."
    doubt = " (though the two intervals meet)" if achieved.high >= predicted.low else ""
    return f"It fell short of the prediction, {predicted:+.3f}{doubt}: {FALLS_SHORT[foretold.remedy]}."


def upgrade_document(
    foretold: Foretold, contest: Contest, comparison: Comparison, pictures: Pictures, path: str
) -> dict[str, Any]:
    """The content of `upgrade.json`."""
    before, after = comparison.entries
    achieved, verdict = after.gain or Interval(math.nan, math.nan, math.nan), after.verdict or UNTOLD
    ways = comparison.ways.get(after.name, ())
    pieces = {
        before.name: contest.ways(before.name)[0],
        after.name: prevailing(ways).pieces if ways else contest.ways(after.name)[0],
    }
    return {
        "version": 1,
        "data": data_facts(pictures, path),
        "remedy": foretold.remedy,
        "listed": foretold.listed,
        "predicted": foretold.gain,
        "predicted_for": foretold.candidate if foretold.remedy == RICHER else "",
        "achieved": achieved,
        "p": after.p,
        "verdict": verdict,
        "covered": covers(foretold.gain, achieved),
        "conclusion": upgrade_conclusion(foretold, pieces[after.name], achieved, verdict, ways),
        "ways": ways,
        "method": method(comparison, "model"),
        "models": [
            {
                "name": each.name,
                **asdict(pieces[each.name]),
                "iou": each.iou,
                "trainings": each.trainings,
                "seconds": each.seconds,
            }
            for each in (before, after)
        ],
        "recipe": before.recipe,
        "seeds": comparison.seeds,
        "folds": comparison.folds,
        "seed": contest.seed,
    }
