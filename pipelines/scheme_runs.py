"""`scheme_comparison`: checked, and the training runs that it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dualdnn.config import parse
from dualdnn.distillation.schemes import ALONE, CO_TRAINING, FEATURE_TRANSFER, SCHEMES, Scheme
from dualdnn.errors import ConfigError
from dualdnn.evaluation.scheme_table import NONE
from pipelines.load import SCORES_FILE
from pipelines.plan import Plan, plan_from
from pipelines.runs import same_run, settings_of
from pipelines.students import is_student_name, merged
from pipelines.teachers import absent_members

# What a comparison calls the scheme of a student without a teacher.
_SCHEME_OF = {**{name: name for name in SCHEMES if name != ALONE}, NONE: ALONE}


@dataclass(frozen=True, kw_only=True)
class SchemeComparisonSettings:
    """`scheme_comparison.*`.

    Attributes:
        schemes: to compare, in the order of the table; `none` is the student alone. Or names in
            `overrides` that say their scheme.
        seeds: of the trainings; the split is that of the run's own seed for all of them.
        baseline: the scheme that others are compared with.
        resamples: draws of groups of test rows.
        overrides: by name in `schemes`, changes to the student there, keys as in a file of a
            student.
    """

    schemes: Sequence[str]
    seeds: Sequence[int]
    baseline: str
    resamples: int
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def scheme_of(self, name: str) -> Scheme | None:
        """The scheme behind a name of `schemes`; None where there is none."""
        scheme = _SCHEME_OF.get(name, self.overrides.get(name, {}).get("scheme"))
        return SCHEMES.get(scheme) if isinstance(scheme, str) else None

    def mistakes(self) -> list[str]:
        """What is wrong with the values, one sentence each."""
        where, found = "scheme_comparison", []
        unknown = [name for name in self.schemes if self.scheme_of(name) is None]
        if unknown or not self.schemes or len(set(self.schemes)) < len(self.schemes):
            found.append(f"{where}.schemes must be different ones out of {', '.join(_SCHEME_OF)}, "
                         f"or names whose {where}.overrides.NAME.scheme is one out of "
                         f"{', '.join(SCHEMES)}, got {list(self.schemes)}.")
        for name in self.schemes:
            is_student_name(name, found)
        for name, own in self.overrides.items():
            if name in _SCHEME_OF and "scheme" in own:
                found.append(f"{where}.overrides.{name}.scheme: {name} is a scheme itself. Give "
                             "the student another name, and list it in schemes.")
            elif name not in _SCHEME_OF and "scheme" not in own:
                found.append(f"{where}.overrides.{name}: {name} is no scheme; they are "
                             f"{', '.join(_SCHEME_OF)}. Or say {where}.overrides.{name}.scheme.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            found.append(f"{where}.seeds must be different whole numbers >= 0 such as "
                         f"[1,2,3,4,5], got {list(self.seeds)}.")
        if self.baseline not in self.schemes:
            found.append(f"{where}.baseline must be one of the schemes {', '.join(self.schemes)}, "
                         f"got `{self.baseline}`.")
        elif (scheme := self.scheme_of(self.baseline)) and scheme.moves_embedding:
            found.append(f"{where}.baseline must leave the teacher as it is, which the table "
                         f"measures by, got `{self.baseline}`. Use {CO_TRAINING}, and read the "
                         "difference the other way round.")
        if self.resamples < 100:
            found.append(f"{where}.resamples must be >= 100, got {self.resamples}.")
        return found


@dataclass(frozen=True, kw_only=True)
class SchemeRun:
    """One training of a comparison.

    Attributes:
        seed: of the training.
        schemes: of its students.
        settings: resolved, as of a run of its own.
    """

    seed: int
    schemes: Sequence[str]
    settings: Mapping[str, Any]


def scheme_comparison_from(
    settings: Mapping[str, Any], mistakes: list[str], *, trains: bool = True
) -> tuple[SchemeComparisonSettings, list[SchemeRun], Plan]:
    """A comparison, checked as a whole with all of its runs.

    Schemes that leave the teacher as it is are students of one run a seed, on a teacher that is
    the same to the bit for all of them; one that moves it has a run of its own.

    Args:
        settings: resolved.
        mistakes: found so far, reported together with those found here.
        trains: also refuse finished members of the teacher's pool that are not there, where a run
            has yet to be scored with them.

    Returns:
        the settings, the runs seed by seed, and the plan of the first.

    Raises:
        ConfigError: with every mistake at once.
    """
    asked = parse(SchemeComparisonSettings, settings["scheme_comparison"], "scheme_comparison",
                  mistakes)
    if asked:
        mistakes.extend(asked.mistakes())
    base = _base_student(settings, mistakes)
    runs: list[SchemeRun] = []
    # The student's extra fields are of the scheme that has them, and of no other.
    of_one_seed: list[Mapping[str, Any]] = [{**settings, "student_configs": {
        name: _without_extra_fields(one) for name, one in settings["student_configs"].items()}}]
    if asked and base is not None and not mistakes:
        moving = [name for name in asked.schemes
                  if (scheme := asked.scheme_of(name)) and scheme.moves_embedding]
        groups = [[name for name in asked.schemes if name not in moving],
                  *([name] for name in moving)]
        runs = [SchemeRun(seed=seed, schemes=group,
                          settings=_of_run(settings, asked, base, seed, group))
                for seed in asked.seeds for group in groups]
        of_one_seed = [run.settings for run in runs[:len(groups)]]
    plans = []
    for one in of_one_seed:
        try:
            plans.append(plan_from(one))
        except ConfigError as error:
            mistakes.extend(error.mistakes)
    if plans and getattr(plans[0].window, "holdout_days", None) == 0:
        mistakes.append("scheme_comparison compares on the test part, and window.holdout_days is "
                        "0. Give it days.")
    if trains and (mistakes or not _all_scored(runs)):
        mistakes.extend(absent_members(settings["teacher"]))
    if mistakes or asked is None:
        raise ConfigError(list(dict.fromkeys(mistakes)))
    return asked, runs, plans[0]


def _base_student(settings: Mapping[str, Any], mistakes: list[str]) -> Mapping[str, Any] | None:
    """The configuration of the one student that is trained under every scheme."""
    students = settings["student_configs"]
    for key, without in (("student_search", None), ("controls", []), ("baselines", []),
                         ("scheme", CO_TRAINING)):
        if settings.get(key) not in (without, {}):
            mistakes.append(f"{key} and scheme_comparison are both given, got {key}="
                            f"{settings[key]!r}. Leave it at {without!r}: the comparison says "
                            "which towers there are.")
    if settings["export"].get("student") is not None:
        mistakes.append(f"export.student={settings['export']['student']}: scheme_comparison "
                        "exports nothing. Leave it at null, and export the run that you choose.")
    if len(students) != 1:
        mistakes.append("scheme_comparison trains one student under every scheme, got "
                        f"{', '.join(students) or 'none'}. Choose one with student=NAME.")
        return None
    (base,) = students.values()
    if not isinstance(base, Mapping):
        return {}  # plan_from says what is wrong
    if base.get("scheme") is not None:
        mistakes.append(f"the student's own scheme and scheme_comparison are both given, got "
                        f"{base['scheme']!r}. Leave it at null.")
    return base


def _all_scored(runs: Sequence[SchemeRun]) -> bool:
    """Has every run kept the scores of its teacher's finished members, and needs them no more?"""
    first: Path | None = None
    for one in runs:
        settings = dict(one.settings)
        if first:
            # As they are trained: with the newest day that the first run has found.
            settings["window"] = settings_of(first)["window"]
        outputs = Path(settings["paths"]["outputs"])
        folder = (same_run(outputs, "train", settings, finished=True)
                  or same_run(outputs, "train", settings, finished=False))
        if folder is None or not (folder / SCORES_FILE).exists():
            return False
        first = first or folder
    return True


def _without_extra_fields(student: Any) -> Any:
    if isinstance(student, Mapping) and "extra_fields" in student:
        return {**student, "extra_fields": []}
    return student


def _of_run(settings: Mapping[str, Any], asked: SchemeComparisonSettings,
            base: Mapping[str, Any], seed: int, schemes: Sequence[str]) -> dict[str, Any]:
    """The settings of one training: the comparison's, with its own seed and students.

    What the comparison's seed decides of the data, such as `window.seed`, is resolved already, and
    so the same for all.
    """
    students = {}
    for name in schemes:
        scheme = asked.scheme_of(name)
        assert scheme, name
        common = base if scheme.name == FEATURE_TRANSFER else _without_extra_fields(base)
        students[name] = {**merged(common, asked.overrides.get(name, {})), "scheme": scheme.name}
    return {**settings, "seed": seed, "students": list(students), "student_configs": students,
            "student_overrides": {}, "scheme_comparison": None,
            "export": {**settings["export"], "student": None}}
