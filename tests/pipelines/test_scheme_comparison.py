"""A comparison of schemes as a user meets it: killed, gone on with, shown again, one table."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from dualdnn.evaluation.metrics import auc
from dualdnn.evaluation.predictions import read_predictions
from pipelines.scheme_comparison import _section
from pipelines.scheme_runs import SchemeComparisonSettings, SchemeRun
from tests.pipelines.test_compare import without_scores

SCHEMES = ["rocket_launching", "co_training", "none"]
GIVEN = ["experiment=scheme_comparison", f"scheme_comparison.schemes=[{','.join(SCHEMES)}]",
         "scheme_comparison.seeds=[2]", "scheme_comparison.resamples=100"]


def reports(feed):
    return {path.parent: json.loads(path.read_text())
            for path in sorted((feed.folder / "outputs" / "train").glob("*/report.json"))}


@pytest.fixture(scope="module")
def compared(feed, forks):
    """A comparison that was killed in its first run, and the same command again."""
    done = forks.run(feed.folder, "train", *feed.given, *GIVEN, since="checkpoints", kill_at=5)
    assert done["code"] == -9, done["said"]
    feed.killed = list(reports(feed))
    done = forks.run(feed.folder, "train", *feed.given, *GIVEN, "resume=true")
    assert done["code"] == 0, done["said"]
    feed.out, feed.reports = done["out"], reports(feed)
    ((feed.run, feed.report),) = [(folder, report) for folder, report in feed.reports.items()
                                  if "scheme_comparison" in report]
    return feed


def test_the_same_command_goes_on_after_a_kill(compared):
    section = compared.report["scheme_comparison"]
    folders = [run["folder"] for run in section["runs"]]
    assert [run["schemes"] for run in section["runs"]] == [SCHEMES[1:], SCHEMES[:1]]
    # The comparison and the run that it was killed in, and one run that is new.
    assert set(map(str, compared.killed)) == {str(compared.run), folders[0]}
    assert set(map(str, compared.reports)) == {str(compared.run), *folders}
    assert {report["status"] for report in compared.reports.values()} == {"done"}
    assert not (compared.folder / "exported_models").exists()


def test_the_table_is_of_the_scores_that_the_runs_have_kept(compared):
    section = compared.report["scheme_comparison"]
    clean, moved = (read_predictions(compared.folder / run["folder"] / "predictions.parquet")
                    for run in section["runs"])
    scores = {"teacher": clean.logits["teacher"], "co_training": clean.logits["co_training"],
              "none": clean.logits["none"], "rocket_launching": moved.logits["rocket_launching"],
              "teacher of rocket_launching": moved.logits["teacher"]}
    table = {row["name"]: row for row in section["table"]}
    assert list(table) == ["teacher", *SCHEMES, "teacher of rocket_launching"]
    assert section["comparison"]["resamples"] == 100
    for name, row in table.items():
        assert row["metrics"]["auc"]["mean"] == pytest.approx(auc(clean.labels, scores[name]))
    assert table["none"]["difference"]["auc"]["value"] == pytest.approx(
        auc(clean.labels, scores["none"]) - auc(clean.labels, scores["co_training"]))
    assert not np.array_equal(scores["teacher"], scores["teacher of rocket_launching"])
    flat = pd.read_csv(compared.run / "schemes.csv").set_index("name")
    assert flat.loc["none", "auc.mean"] == pytest.approx(table["none"]["metrics"]["auc"]["mean"])


def test_a_scheme_that_diverged_with_every_seed_is_named(compared, tmp_path):
    runs = compared.report["scheme_comparison"]["runs"]
    clean, moved = (compared.folder / run["folder"] for run in runs)
    folders = [without_scores(clean, tmp_path / "clean", "none", diverged=["none"]), moved]
    asked = SchemeComparisonSettings(schemes=SCHEMES, seeds=[2], baseline="co_training",
                                     resamples=100)
    found = _section(asked, [SchemeRun(seed=2, schemes=run["schemes"], settings={})
                             for run in runs], folders)
    assert [row["name"] for row in found["table"]] == [
        "teacher", "rocket_launching", "co_training", "teacher of rocket_launching"]
    assert ("The tower none of co_training,none has no scores with seed 2: it became NaN or "
            "infinite before its first evaluation, and is left out.") in found["notes"]


def test_a_run_after_another_is_as_one_in_a_process_of_its_own(compared, forks):
    student = compared.folder / "conf" / "student" / "rocket_launching.yaml"
    student.write_text(yaml.safe_dump({"defaults": ["mini"], "dropout": 0.0}))
    given = [one for one in compared.given if not one.startswith("student=")]
    outputs = compared.folder / "by_itself"
    done = forks.run(compared.folder, "train", *given, "seed=2", "students=[rocket_launching]",
                     "scheme=rocket_launching", "controls=[]", f"paths.outputs={outputs}")
    assert done["code"] == 0, done["said"]
    (path,) = outputs.glob("train/*/report.json")
    alone = json.loads(path.read_text())
    second = compared.reports[compared.folder
                              / compared.report["scheme_comparison"]["runs"][1]["folder"]]
    for one, other in ((alone["teacher"], second["teacher"]),
                       (alone["students"]["rocket_launching"],
                        second["students"]["rocket_launching"])):
        assert one["weights_sha256"] == other["weights_sha256"]


def test_what_is_trained_is_never_trained_again(compared, forks):
    before = {path: path.stat().st_mtime_ns
              for path in (compared.folder / "outputs" / "train").glob("*/model/*")}
    shown = forks.run(compared.folder, "train", *compared.given, *GIVEN, "reuse=true")
    assert shown["code"] == 0, shown["said"]
    assert "has trained this configuration already" in shown["out"]
    again = forks.run(compared.folder, "train", *compared.given, *GIVEN,
                      "scheme_comparison.baseline=none")
    assert again["code"] == 0, again["said"]
    assert again["out"].count("trained already") == 2
    assert {path: path.stat().st_mtime_ns
            for path in (compared.folder / "outputs" / "train").glob("*/model/*")} == before


def test_the_terminal_and_the_folder_show_the_table(compared):
    table = compared.out.partition("schemes on the test part")[2].partition("Differences")[0]
    assert max(map(len, table.splitlines())) <= 110
    assert "rocket_launching" in table
    assert {path.name for path in compared.run.iterdir()} >= {
        "config.yaml", "report.json", "report.md", "report.html", "schemes.csv", "metrics.csv",
        "differences.csv", "differences.png"}
    assert "| teacher | AUC |" in (compared.run / "report.md").read_text()
    assert "<h2>Schemes</h2>" in (compared.run / "report.html").read_text()


# mlflow reads its own database in a way that its database library has since deprecated.
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
def test_the_table_is_in_mlflow(compared):
    client = MlflowClient(tracking_uri=compared.report["tracking_uri"])
    logged = client.get_run(compared.report["mlflow_run"])
    assert logged.info.status == "FINISHED"
    table = {row["name"]: row for row in compared.report["scheme_comparison"]["table"]}
    assert logged.data.metrics["none/test/auc"] == table["none"]["metrics"]["auc"]["mean"]
    assert logged.data.metrics["none/less_co_training/log_loss_p_holm"] == (
        table["none"]["difference"]["log_loss"]["p_holm"])
    files = {artifact.path for artifact in client.list_artifacts(logged.info.run_id)}
    assert files >= {"report.json", "report.html", "schemes.csv"}


def test_a_lost_baseline_ends_the_comparison_before_the_next_run(compared, forks):
    outputs = compared.folder / "lost"
    rate = "scheme_comparison.overrides.co_training.optimizer"
    done = forks.run(compared.folder, "train", *compared.given, *GIVEN, f"paths.outputs={outputs}",
                     f"+{rate}.learning_rate=1e30", f"+{rate}.clip_norm=null")
    assert done["code"] == 1, done["said"]
    assert "co_training became NaN or infinite with seed 2" in done["err"]
    # The comparison and its first run.
    assert len(list(outputs.glob("train/*"))) == 2


def test_other_jobs_know_that_a_comparison_is_no_training(compared, forks, tmp_path):
    done = forks.run(tmp_path, "evaluate", f"run={compared.run}")
    assert done["code"] == 2
    assert "is a comparison of schemes; the runs that it is made of" in done["err"]
