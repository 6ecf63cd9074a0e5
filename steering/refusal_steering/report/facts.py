"""Facts of bundles and of their thresholds, in the words of a report."""

from __future__ import annotations

from refusal_steering.bundle import SteeringBundle, Window
from refusal_steering.calibration.conformal import Threshold
from refusal_steering.report.measurements import BundleFacts, Conformal


def bundle_facts(bundle: SteeringBundle) -> BundleFacts:
    """What a bundle is and which tokens it steers."""
    manifest = bundle.manifest
    return BundleFacts(
        manifest.name,
        manifest.strategy,
        bundle.digest,
        manifest.layers,
        "logits of the first answer tokens" if manifest.blends else _words(manifest.window),
        "none" if manifest.gate is None else manifest.gate.summary,
    )


def conformal_of(policy: str, threshold: Threshold, form: str | None = None) -> Conformal:
    """What a threshold guarantees, for requests of one form or of everyday ones of all forms."""
    whose = "everyday harmless request" if form is None else f"harmless request of {form}"
    return Conformal(
        policy=policy,
        budget=threshold.budget,
        n=threshold.count,
        threshold=threshold.value,
        guarantee=(
            f"a new {whose} is touched with probability at most {threshold.budget:g}; with 95 % "
            f"confidence at most {threshold.worst_share:.3f} for this very threshold"
        ),
        **({} if form is None else {"form": form}),
    )


def _words(window: Window) -> str:
    if window.decode_tokens is None:
        return "last prompt token and every answer token"
    if window.decode_tokens == 0:
        return "last prompt token"
    held = "held" if window.hold else "each its own"
    return f"last prompt token and {window.decode_tokens} answer tokens, {held}"
