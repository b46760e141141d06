"""`student_search`: which students a grid makes, and which grids are refused."""

import pytest
from omegaconf import OmegaConf

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from dualdnn.errors import ConfigError
from pipelines.student_grid import searched_students
from tests.pipelines.test_configuration_mistakes import plan_of

SEARCH = "experiment=student_search"


def grid(*overrides):
    return {student.name: student for student in plan_of(SEARCH, *overrides).students}


def test_every_combination_is_a_student_named_for_it():
    found = grid("student_search.grid.hidden_units=[[64,32],[16]]")
    assert list(found) == ["64-32-hints", "64-32-soft", "64-32-fm-hints", "64-32-fm-soft",
                           "16-hints", "16-soft", "16-fm-hints", "16-fm-soft"]
    for name, student in found.items():
        assert tuple(student.network.hidden_units) == ((16,) if name[0] == "1" else (64, 32))
        assert student.network.fm == ("-fm" in name)
        assert (student.objective.hint_weight > 0) == name.endswith("hints")
        assert student.objective.soft_label_weight == 1


def test_the_default_grid_is_at_most_two_dozen_students_without_controls():
    plan = plan_of(SEARCH)
    assert 12 <= len(plan.students) <= 24
    assert plan.controls == []
    assert (plan.search.distance, plan.search.latency_tolerance) == (0.001, 0.05)


def test_an_axis_that_is_left_out_stays_as_the_student_is():
    assert list(grid("~student_search.grid.distillation", "~student_search.grid.hidden_units")) == [
        "light", "light-fm"]
    found = grid("~student_search.grid.distillation", "~student_search.grid.fm",
                 "student_search.grid.hidden_units=[[8],[]]", "distillation=soft_labels",
                 "student=tiny", "student.dropout=0.25", "student.fm=true")
    assert list(found) == ["8", "none"]
    for student in found.values():
        assert (student.network.dropout, student.network.fm) == (0.25, True)


def test_changes_to_the_runs_distillation_stay_where_two_files_agree():
    found = grid("student_search.grid.hidden_units=[[16]]", "student_search.grid.fm=[false]",
                 "distillation.temperature=3", "distillation.hint_weight=0.7",
                 "+student_search.grid.distillation.mild={soft_label_weight: 0.25}")
    assert list(found) == ["16-hints", "16-soft", "16-mild"]
    assert {student.objective.temperature for student in found.values()} == {3}
    assert [found[name].objective.hint_weight for name in found] == [0.7, 0, 0.7]
    assert [found[name].objective.soft_label_weight for name in found] == [1, 1, 0.25]


def test_losses_are_taken_away_by_null():
    given = ["student_search.grid.hidden_units=[[16]]", "student_search.grid.fm=[false]",
             "student_search.grid.distillation.hints=null"]
    found = grid(*given, "+student_search.grid.distillation.logits=logits")
    assert list(found) == ["16-soft", "16-logits"]
    assert found["16-logits"].objective.logit_weight == 0.5
    # Of one kind nothing is said in the name.
    found = grid(*given)
    assert list(found) == ["16"]
    assert found["16"].objective.hint_weight == 0


def test_a_student_of_the_grid_can_be_exported():
    assert plan_of(SEARCH, "export.student=16-fm-soft").export.student == "16-fm-soft"


@pytest.mark.parametrize(("grid", "message"), [
    ({"hidden_units": [[64], 32]},
     "student_search.grid.hidden_units must be a list of lists of widths such as [[64,32],[16]], "
     "got 32 in it."),
    ({"hidden_units": 64}, "student_search.grid.hidden_units must be a list of lists of widths"),
    ({"hidden_units": []}, "student_search.grid.hidden_units must be a list of lists of widths"),
    ({"hidden_units": [[8], [8]]}, "student_search.grid.hidden_units lists a value twice"),
    ({"hidden_units": [[True]]}, "got [True] in it."),
    ({"fm": [1]}, "student_search.grid.fm must be a list of true and false, got 1"),
    ({"fm": True}, "student_search.grid.fm must be a list of true and false, got True"),
    ({"distillation": 3},
     "student_search.grid.distillation must be a mapping of short names to files under"),
    ({"distillation": {"soft": "softer"}}, "there is no softer"),
    ({"distillation": {"soft": 3}},
     "student_search.grid.distillation.soft must be a name under distillation/ or a mapping of"),
    ({"dropout": [0.1]},
     "student_search.grid.dropout is not known; known are hidden_units, fm, distillation."),
    ({"hidden_units": [[units] for units in range(1, 34)], "fm": [False, True]},
     "student_search.grid makes 66 students, expected at most 64."),
    (3, "student_search must be null or a mapping with grid, distance,"),
])
def test_a_wrong_grid_is_refused(grid, message):
    def losses_of(name):
        raise ConfigError(f"there is no {name}")

    mistakes = []
    found = searched_students(OmegaConf.create({"grid": grid}), "light",
                              OmegaConf.create({"hidden_units": [4]}), losses_of, mistakes)
    assert found == {}
    (mistake,) = mistakes
    assert message in mistake


def test_two_students_of_one_name_are_refused():
    losses = {"soft": {"hint_weight": 0.0}, "fm-soft": {"soft_label_weight": 0.0}}
    mistakes = []
    searched_students(
        OmegaConf.create({"grid": {"fm": [False, True], "distillation": losses}}), "light",
        OmegaConf.create({"hidden_units": [4], "fm": False}), lambda name: {}, mistakes)
    assert mistakes == ["student_search.grid makes two students named light-fm-soft. Give the "
                        "losses in student_search.grid.distillation other names."]


@pytest.mark.parametrize(("overrides", "messages"), [
    (["student_search.distance=-1", "student_search.latency_tolerance=2", "+student_search.rows=3",
      "students=[tiny]", "student_overrides.light.dropout=0.1", "window=rolling"],
     ["student_search.rows is not known", "students and student_search are both given.",
      "student_overrides and student_search are both given.",
      "student_search chooses on the validation part, and window.valid_days is 0"]),
    (["student_search.distance=-1", "student_search.latency_tolerance=2", "window.valid=0",
      "window.train=0.9", "export.student=light",
      "+student_search.grid.distillation.mild={hint_wieght:1}",
      "+student_search.grid.distillation.tea$cup=logits"],
     ["student_search.distance must lie in [0, 0.5), got -1.",
      "student_search.latency_tolerance must lie in [0, 1), got 2.",
      "student_search chooses on the validation part, and window.valid is 0",
      "export.student `light` is not among the students of the run", "hint_wieght is not known",
      "a student must be named by letters, digits, `_` and `-`, and not `teacher` or `shared`, "
      "got "]),
    (["student_search=3"], ["student_search must be null or a mapping with grid, distance,"]),
])
def test_what_does_not_go_with_a_search_is_refused(overrides, messages):
    with pytest.raises(ConfigError) as raised:
        plan_of(SEARCH, *overrides)
    for message in messages:
        assert message in str(raised.value)
