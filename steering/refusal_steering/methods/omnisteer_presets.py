"""Loss constants for OmniSteer adapters: the published three, and two that have no units.

arXiv 2602.10161 with its released configurations. The published losses weigh the hinge by 1/N
and the cost of a coefficient by 1, where N is the length of the golden vector; beyond
N = 1/cost the cost wins and the adapter learns to do nothing. ``scale-free`` measures both in N.
All of these count projections from zero, where a model may have its harmful rows anywhere;
``centred`` does not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Preset:
    """Constants of the loss, and the learning rate they were chosen with.

    A harmful row should reach the projection ``reach``, a harmless one stay below ``-keep``.
    ``harmful_cost`` and ``harmless_cost`` weigh the size of the coefficient. Lengths of the
    hinge are counted in N where ``hinge_in_norms``, else in residual-stream units; coefficients
    are costed and learnt in N where ``coefficient_in_norms``. With ``centred`` projections are
    counted from the harmless mean instead of from zero.
    """

    name: str
    reach: float
    keep: float
    harmful_cost: float
    harmless_cost: float
    learning_rate: float
    hinge_in_norms: bool
    coefficient_in_norms: bool
    centred: bool = False

    def hinge_unit(self, norm: float) -> float:
        """Length in residual-stream units in which the hinge counts, for a vector of ``norm``."""
        return norm if self.hinge_in_norms else 1.0

    def coefficient_unit(self, norm: float) -> float:
        """Length in residual-stream units in which coefficients are learnt and costed."""
        return norm if self.coefficient_in_norms else 1.0


SCALE_FREE = Preset(
    name="scale-free",
    reach=0.3,
    keep=0.5,
    harmful_cost=0.01,
    harmless_cost=0.05,
    learning_rate=1e-3,
    hinge_in_norms=True,
    coefficient_in_norms=True,
)
# Counted from the harmless mean, harmful rows lie about one N along the vector by themselves: they
# are to reach twice as far, whatever the stream's own offset along the vector is.
CENTRED = replace(SCALE_FREE, name="centred", reach=2.0, centred=True)
QWEN = Preset(
    name="qwen",
    reach=0.3,
    keep=0.5,
    harmful_cost=0.01,
    harmless_cost=0.05,
    learning_rate=1e-3,
    hinge_in_norms=True,
    coefficient_in_norms=False,
)
BAICHUAN = Preset(
    name="baichuan",
    reach=0.8,
    keep=0.4,
    harmful_cost=0.01,
    harmless_cost=0.02,
    learning_rate=1e-3,
    hinge_in_norms=True,
    coefficient_in_norms=False,
)
MINICPM = Preset(
    name="minicpm",
    reach=10.0,
    keep=3.0,
    harmful_cost=0.005,
    harmless_cost=0.01,
    learning_rate=5e-4,
    hinge_in_norms=False,
    coefficient_in_norms=False,
)

PRESETS: dict[str, Preset] = {
    preset.name: preset for preset in (SCALE_FREE, CENTRED, QWEN, BAICHUAN, MINICPM)
}
