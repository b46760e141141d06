import dataclasses
from pathlib import Path

import pytest
import yaml

from dualdnn.config import parse
from dualdnn.evaluation.gate_settings import GateSettings

CONF = Path(__file__).resolve().parents[2] / "conf" / "gate"


def settings(**changes):
    """The default configuration with some keys replaced, and what is wrong with it."""
    values = {**yaml.safe_load((CONF / "default.yaml").read_text()), **changes}
    mistakes = []
    made = parse(GateSettings, values, "gate", mistakes)
    return made, mistakes + (made.mistakes() if made else [])


def test_the_file_says_what_the_library_does_by_itself():
    assert settings() == (GateSettings(), [])


def test_off_differs_in_one_key():
    values = yaml.safe_load((CONF / "off.yaml").read_text())
    assert values.pop("defaults") == ["default"]
    made, mistakes = settings(**values)
    assert mistakes == []
    assert made == dataclasses.replace(GateSettings(), enabled=False)


@pytest.mark.parametrize(("changes", "mistake"), [
    ({"level": 1}, r"gate.level must lie in \[0.5, 1\), got 1."),
    ({"resamples": 10}, "gate.resamples must be >= 100, got 10."),
    ({"min_groups": 1}, "gate.min_groups must be >= 2, got 1."),
    ({"finite": {"severity": "stop"}},
     "gate.finite.severity must be one of reject, warn, ignore, got 'stop'."),
    ({"auc_drop": {"allowed": 0.1, "hard": 0.03}},
     r"gate.auc_drop.hard must be >= gate.auc_drop.allowed \(0.1\), got 0.03."),
    ({"auc_drop": {"allowed": -1, "hard": 0.03}}, "gate.auc_drop.allowed must be >= 0, got -1."),
    ({"ece": {"towers": ["light"]}}, "gate.ece.towers must hold names of student, teacher, got"),
    ({"slice_auc_drop": {"allowed": 0.1, "hard": 0.3, "min_rows": 0}},
     "gate.slice_auc_drop.min_rows must be >= 1, got 0."),
    ({"calibration": {"low": 1.1}}, "gate.calibration must hold 0 < hard_low <= low <= 1"),
    ({"label_rate": {"ratio": 0.5}}, "gate.label_rate.ratio must be >= 1, got 0.5."),
    ({"holdout": {"min_rows": 0}}, "gate.holdout.min_rows must be >= 1, got 0."),
    ({"oov": {"rise": -0.1}}, "gate.oov.rise must be >= 0, got -0.1."),
    ({"size": {"maximum": 0}}, "gate.size.maximum must be >= 1, got 0."),
    ({"latency": {"ratio": 0.9}}, "gate.latency.ratio must be >= 1, got 0.9."),
    ({"parity": {"maximum": -1}}, "gate.parity.maximum must be >= 0, got -1."),
    ({"score_change": {"psi": -1}}, "gate.score_change.psi must be >= 0, got -1."),
    ({"reference_change": {"psi": -1}}, "gate.reference_change.psi must be >= 0, got -1."),
    ({"drift": {}}, "gate.drift is not known; known are enabled, level"),
    ({"auc_drop": {"hard": 1}}, "gate.auc_drop.allowed is missing."),
], ids=lambda part: next(iter(part)) if isinstance(part, dict) else "")
def test_a_mistake_is_named(changes, mistake):
    _, mistakes = settings(**changes)
    assert len(mistakes) == 1
    with pytest.raises(AssertionError, match=mistake):
        raise AssertionError(mistakes[0])


def test_only_leaves_the_named_rules():
    kept = GateSettings().only("finite", "parity")
    assert [name for name, rule in kept.rules().items() if rule.severity != "ignore"] \
        == ["finite", "parity"]
    assert kept.level == GateSettings().level
    with pytest.raises(KeyError, match="no rule is named 'finte'; they are finite, measured"):
        GateSettings().only("finte")
