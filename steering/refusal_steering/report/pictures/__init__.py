"""Pictures of measurements as inline SVG."""

from refusal_steering.report.pictures.canvas import Picture
from refusal_steering.report.pictures.coefficients import coefficient_picture
from refusal_steering.report.pictures.cosines import cosine_picture
from refusal_steering.report.pictures.dissolution import dissolution_picture
from refusal_steering.report.pictures.projections import projection_picture
from refusal_steering.report.pictures.prompt_risks import prompt_risk_picture
from refusal_steering.report.pictures.roc import roc_picture
from refusal_steering.report.pictures.separability import separability_picture
from refusal_steering.report.pictures.shrinkage import shrinkage_picture
from refusal_steering.report.pictures.trade_off import trade_off_picture

__all__ = [
    "Picture",
    "coefficient_picture",
    "cosine_picture",
    "dissolution_picture",
    "projection_picture",
    "prompt_risk_picture",
    "roc_picture",
    "separability_picture",
    "shrinkage_picture",
    "trade_off_picture",
]
