"""What a fine-tune takes over from the champion, and what it takes from the new days."""

import datetime
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from hydra import initialize_config_dir

import pipelines  # noqa: F401  (chooses the Keras API, keeps TensorFlow quiet)
from dualdnn.data.examples import TrainingSize, open_examples
from dualdnn.data.window import ChosenDays
from dualdnn.errors import DataError
from dualdnn.training.learner import open_state
from pipelines.build import new_learner
from pipelines.challenge import Standing
from pipelines.compose import composed, resolved
from pipelines.daily_job import DailyJob
from pipelines.daily_plan import daily_plan_from
from pipelines.daily_steps import going_on, keep, learned_notes, open_window
from pipelines.present import make_console
from pipelines.student_alone import student_learner
from tests.daily_feed import ROWS, Feed
from tests.pipelines.conftest import DATA
from tests.pipelines.test_jobs import REPOSITORY

DAYS = [datetime.date(2024, 1, 1 + number) for number in range(3)]
MIDNIGHT = int(datetime.datetime(2024, 1, 3, tzinfo=datetime.UTC).timestamp())
# As where the champion has learned 40 rows of the third day; of the other 200, 48 are held back.
WINDOW = ChosenDays(train=DAYS[2:], after=(DAYS[2], MIDNIGHT + 39), test_share=0.24)
PARTS = np.repeat(["known", "new", "held"], [40, 152, 48])
POOL = ["teacher=pool", "teacher.gate=learned", "teacher.towers.xdeepfm=null",
        "teacher.towers.dcn_v2.interactions.cross.projection_dim=2", "teacher.hidden_units=[4]"]
LIGHT = np.tile([0.0, 1.0, 2.0, 3.0], ROWS // 4)


@pytest.fixture(scope="module")
def feed(tmp_path_factory):
    """A weight column that is ten times as large from the third day on, another one, new fields."""
    feed = Feed(tmp_path_factory.mktemp("feed"))
    for number, day in enumerate(DAYS):
        path = feed.folder / "feed" / f"dt={day}" / "part.parquet"
        columns = {"weight": LIGHT * (10 if number == 2 else 1), "other": LIGHT + 28,
                   "part": PARTS, "load": 100.0 * np.arange(ROWS)}
        table = pq.read_table(path)
        for name, values in columns.items():
            table = table.append_column(name, [values])
        pq.write_table(table, path)
    fields = [*DATA["fields"], {"name": "part", "kind": "id"},
              {"name": "load", "kind": "number", "buckets": 8}]
    (feed.folder / "conf" / "data" / "more_fields.yaml").write_text(
        yaml.safe_dump({**DATA, "fields": fields}, sort_keys=False), encoding="utf-8")
    return feed


@pytest.fixture
def job_of(feed, tmp_path):
    """Returns a function: a fine-tune of the third day, with overrides."""

    def job_of(*overrides):
        replaced = ("--config-dir", "conf", *(["teacher=small"] if POOL[0] in overrides else []))
        given = [one for one in feed.given if one not in replaced]
        with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
            settings = resolved(composed("finetune", [
                *given, f"hydra.searchpath=[{feed.folder / 'conf'}]",
                f"data.lake={feed.folder / 'feed'}", f"paths.state={feed.folder / 'state'}",
                *overrides]))
        return DailyJob(name="finetune", plan=daily_plan_from(settings), as_of=DAYS[2],
                        run=tmp_path, console=make_console(), started=0.0)

    return job_of


def standing_of(job, gate=()):
    """A champion with the first two days, as the job that trains one leaves it.

    Args:
        job: the job.
        gate: of a pool with a learned gate, the bias of each member.
    """
    examples = open_window(job, DAYS[:2], ())
    learner = new_learner(job.plan.towers, examples.schema, examples.row_map,
                          examples.training_size)
    if gate:
        learner.model.teacher.gate.bias.assign(gate)
    keep(job, "trained", learner,
         learned_notes(examples, examples.split.train, job.plan.settings))
    return Standing(version=1, path=job.run, plan=job.plan, student=None,
                    stored=open_state(job.run / "trained"))


def test_new_fields_take_ids_and_boundaries_from_the_rows_to_be_learned_alone(job_of):
    """Neither from those that are held back for the gate, nor from those before the window."""
    job = job_of("data=more_fields")
    learner, _ = going_on(job, standing_of(job_of()), WINDOW)
    examples = open_examples(lake=job.plan.towers.lake, schema=job.plan.towers.schema,
                             window=WINDOW, state=job.all_state, row_map=learner.row_map)
    assert (len(examples.split.train), len(examples.split.test)) == (152, 48)
    known = examples.is_known("part", np.arange(ROWS))
    assert set(PARTS[known]) == {"new"}
    position = [field.name for field in examples.schema.fields].index("load")
    boundaries = examples.row_map.boundaries_of(position)
    assert len(boundaries)
    assert 4_000 <= boundaries.min() <= boundaries.max() < 19_200


def test_the_unit_of_weights_stays_where_newer_days_weigh_ten_times_as_much(job_of):
    """So that rows of a heavier day move the model more, as they would in one training."""
    job = job_of("+data.weight=weight")
    learner, taken = going_on(job, standing_of(job), WINDOW)
    # Of rows of weight 1, 2 and 3; those of weight 0 are none.
    assert learner.train_step.size == TrainingSize(2 * ROWS * 3 // 4, 2.0)
    assert taken == []
    keep(job, "tuned", learner, {})
    assert open_state(job.run / "tuned").size == learner.train_step.size


@pytest.mark.parametrize(("before", "now", "mean"), [
    (["+data.weight=weight"], ["+data.weight=other"], 29.5),
    ([], ["+data.weight=other"], 29.5),
    (["+data.weight=other"], [], 1.0),
])
def test_another_column_of_weights_brings_its_own_unit(job_of, before, now, mean):
    standing = standing_of(job_of(*before))
    assert standing.stored.size.mean_weight != mean
    learner, _ = going_on(job_of(*now), standing, WINDOW)
    # That of the rows to be learned; priors stay in units of the rows from scratch.
    assert learner.train_step.size == (standing.stored.size.num_examples, pytest.approx(mean))


def test_shares_of_a_learned_gate_stay_with_the_towers_that_change_places(job_of):
    standing, job = standing_of(job_of(*POOL), gate=[3.0, -1.0]), job_of(*POOL)
    teacher = job.plan.towers.teacher
    towers = dict(reversed(teacher.towers.items()))
    swapped = replace(job.plan.towers, teacher=replace(teacher, towers=towers))
    learner, _ = going_on(replace(job, plan=replace(job.plan, towers=swapped)), standing, WINDOW)
    assert learner.model.teacher.members == ["deepfm", "dcn_v2"]
    np.testing.assert_array_equal(learner.model.teacher.gate.bias, [-1, 3])


def of_release_0_3(standing):
    """The same champion without what later releases noted."""
    about = {key: value for key, value in standing.stored.about.items() if key != "mean_weight"}
    return replace(standing, stored=replace(standing.stored, about=about))


def test_a_state_of_an_earlier_release_takes_the_unit_of_the_rows_at_hand(job_of):
    job = job_of("+data.weight=weight")
    learner, _ = going_on(job, of_release_0_3(standing_of(job)), WINDOW)
    assert learner.train_step.size.mean_weight == 20


def test_a_student_alone_does_not_guess_the_unit_of_an_earlier_release(job_of):
    """It has too few rows at hand, and a wrong unit would scale every step."""
    job = job_of("+data.weight=weight")
    standing = standing_of(job)
    assert student_learner(job.plan, standing).train_step.size.mean_weight == 2
    with pytest.raises(DataError, match=r"version 1 is of release 0\.3, .* its `weight`"):
        student_learner(job.plan, of_release_0_3(standing))
    plain = job_of()
    size = student_learner(plain.plan, of_release_0_3(standing_of(plain))).train_step.size
    assert size.mean_weight == 1
