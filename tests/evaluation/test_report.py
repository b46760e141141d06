import json
import logging
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from dualdnn.evaluation.report import console_table, plain, result_rows, write_report
from dualdnn.evaluation.results import divergences, importance_table, published_table
from pipelines.present import show_result


def measured(shift=0.0):
    return {"auc": np.float64(0.79 - shift), "log_loss": 0.5312, "grouped_auc": 0.7211,
            "grouped_rows": 0.93, "normalized_entropy": 0.8123, "calibration": 1.0123,
            "ece": np.float32(0.0125), "params_dense": np.int64(451_234),
            "params_embedding": 12_345_678}


def example():
    alone, label_only = measured(0.02), measured(0.03)
    return {
        "job": "train", "status": "done",
        "data": {"name": "ml100k", "rows_train": 80_000, "rows_test": 10_000,
                 "fingerprint": "f00d", "dropped_fields": ["item_mean"]},
        "teacher": measured() | {"slices": {"new_user": {"rows": 12, "auc": 0.61},
                                            "job=a|b": {"rows": 3, "log_loss": 0.7}}},
        "students": {
            "light": measured(0.01) | {
                "latency_ratio": 10.23, "latency_ratio_at": {1: 3.5, 500: 10.23},
                "distillation_efficiency": float("nan"), "bytes_dense": 1_234_567,
                "control": {"alone": alone, "shared_label_only": label_only},
            },
            "tiny": measured(0.04),
        },
        "control": {"alone": alone, "shared_label_only": label_only},
        "export": {"name": "ml100k_dev", "student": "light", "path": "exported/ml100k_dev/1",
                   "version": 1},
        "seconds": {"train": 45.5}, "examples_per_second": 4567.8,
    }


HISTORY = [{"step": step, "epoch": 0, "tower": tower, "part": "train", "metric": metric,
            "value": 1.0 / step}
           for tower in ("teacher", "light") for step in (1, 2, 3)
           for metric in ("label_loss", "soft_label_loss")]
RELIABILITY = {"teacher": (np.array([0, 1, 1]), np.array([0.2, 0.6, 0.9]), None)}


def printed(report, width):
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(console_table(report))
    return captured.get()


def test_plain_turns_numpy_into_numbers_and_drops_what_was_not_measured():
    given = {"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True), "nan": float("nan"),
             "inf": np.float64("inf"), "none": None, "at": {1: 2.0}, "path": Path("x/y"),
             "list": (np.array([1.0, np.nan]), "t")}
    assert plain(given) == {"a": 0.5, "b": 3, "c": True, "at": {"1": 2.0}, "path": "x/y",
                            "list": [[1.0, None], "t"]}
    assert type(plain(given)["c"]) is bool


def test_plain_names_the_place_of_a_value_it_does_not_know():
    with pytest.raises(TypeError, match=r"report\.students\.light\[1\] must be .* got set"):
        plain({"students": {"light": [1, {2}]}})


def test_result_rows_follow_the_contract():
    rows = result_rows(example())
    assert [(row["tower"], row["role"]) for row in rows] == [
        ("teacher", "teacher"), ("light", "student"), ("light.alone", "control"),
        ("light.shared_label_only", "control"), ("tiny", "student"),
    ]
    assert [round(row["auc"], 2) for row in rows] == [0.79, 0.78, 0.77, 0.76, 0.75]
    assert [row.get("latency_ratio") for row in rows] == [None, 10.23, None, None, None]
    assert "slices" not in rows[0]


def test_top_level_control_is_read_only_where_no_student_has_one():
    rows = result_rows({"teacher": {"auc": 0.8}, "control": {"alone": {"auc": 0.7}}})
    assert [row["tower"] for row in rows] == ["teacher", "control.alone"]


def test_what_became_nan_is_told_with_where_its_numbers_come_from():
    report = with_baselines()
    report["students"]["light"]["control"]["alone"] |= {"status": "diverged",
                                                        "weights_sha256": "f00d"}
    report["students"]["tiny"] = {"status": "diverged"}
    assert divergences(report) == [
        "student tiny became NaN or infinite and dropped out",
        "control alone of light became NaN or infinite and dropped out; its numbers are of its "
        "best weights before that",
        "baseline broken became NaN or infinite and dropped out"]


def test_result_rows_of_an_empty_report():
    assert result_rows({"job": "train", "status": "running"}) == []


def test_members_of_a_pool_stand_below_the_teacher(tmp_path):
    report = example()
    report["teacher"] |= {"towers": {"dcn": {"auc": 0.71, "share": 0.25},
                                     "earlier": {"auc": 0.72, "share": 0.75}},
                          "untimed": ["earlier"]}
    rows = result_rows(report)
    assert [(row["tower"], row["role"], row["name"]) for row in rows[:4]] == [
        ("teacher", "teacher", "teacher"), ("teacher.dcn", "member", "dcn"),
        ("teacher.earlier", "member", "earlier"), ("light", "student", "light")]
    assert [row["auc"] for row in rows[1:3]] == [0.71, 0.72]
    text = write_report(tmp_path, report, history=[]).read_text()
    assert "The teacher was timed without its finished members (earlier)" in text
    assert "timed without" not in write_report(tmp_path, example(), history=[]).read_text()


def with_baselines():
    trees = {"trees": 20, "seconds": 1.25, "settings": {"leaves": 12}}
    given = example()
    given["teacher"]["interactions"] = ["CompressedInteractionNetwork"]
    return given | {
        "published": {"latency_ratio": 5, "baseline_latency_ratio": [2.5, 3.5]},
        "baselines": {"fm": measured(0.05) | {"latency_ratio": 7.5},
                      "gbdt_fm_dnn": measured(0.02) | {"latency_ratio": 1.75, "gbdt": trees},
                      "broken": {"status": "diverged"}}}


def test_baselines_are_rows_of_the_table_and_a_section_of_the_page(tmp_path):
    rows = result_rows(with_baselines())[5:]
    assert [(row["tower"], row["role"], row["name"]) for row in rows] == [
        (f"baseline.{name}", "baseline", name) for name in ("fm", "gbdt_fm_dnn", "broken")]
    assert rows[0]["latency_ratio"] == 7.5
    assert ["baseline", "fm", "0.7400"] in [line.split()[:3]
                                            for line in printed(with_baselines(), 110).splitlines()]
    page = write_report(tmp_path, with_baselines()).read_text()
    assert "| baseline: fm | 0.7400 |" in page
    assert "| gbdt_fm_dnn |  |  |  |  | 20 of at most 12 leaves, grown in 1.2 s |" in page
    assert "| broken |  |  |  | diverged |  |" in page


def test_published_figures_stand_beside_those_they_are_of():
    heading, rows = published_table(with_baselines())
    assert heading == ["", "published", "light", "tiny", "gbdt_fm_dnn"]
    assert rows == [
        ["teacher latency / student latency, 500 rows", "about 5x", "10.2x", "-", ""],
        ["xDeepFM latency / GBDT+FM+DNN latency, 500 rows", "2.5x to 3.5x", "", "", "1.8x"]]
    # The range is of an xDeepFM, and says nothing of another teacher.
    other = with_baselines()
    other["teacher"]["interactions"] = ["CrossNetwork"]
    assert published_table(other)[1][1] == [
        "teacher latency / GBDT+FM+DNN latency, 500 rows", "-", "", "", "1.8x"]
    # Without a baseline on leaves there is nothing to stand beside the range.
    assert len(published_table({**with_baselines(), "baselines": {}})[1]) == 1


def test_console_table_shows_every_number_whole_in_110_columns():
    text = printed(example(), 110)
    assert max(len(line) for line in text.splitlines()) <= 110
    lines = [line.split() for line in text.splitlines()]
    assert ["teacher", "0.7900", "0.7211", "0.5312", "0.8123", "1.0123", "0.0125", "451,234",
            "12.35M", "-"] in lines
    assert ["light", "0.7800", "0.7211", "0.5312", "0.8123", "1.0123", "0.0125", "451,234",
            "12.35M", "10.2x"] in lines
    assert any(line[:2] == ["control", "shared_label_only"] and len(line) == 11 for line in lines)


def test_console_table_folds_a_long_name_and_keeps_the_numbers():
    name = "a_student_with_a_name_that_goes_on_and_on_and_on"
    text = printed({"students": {name: measured()}}, 110)
    assert max(len(line) for line in text.splitlines()) <= 110
    assert "0.7900" in text
    assert "…" not in text
    first, second = [line.split()[0] for line in text.splitlines() if line.split()][-2:]
    assert first + second == name


def test_console_table_takes_a_name_in_brackets_as_text():
    assert "[bold]" in printed({"students": {"[bold]": {"auc": 0.5}}}, 110)


def test_write_report_leaves_json_page_and_figures(tmp_path):
    path = write_report(tmp_path, example(), history=HISTORY, reliability=RELIABILITY,
                        config_text="seed: 1", command="python -m pipelines.train seed=1")
    assert path == tmp_path / "report.md"
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        "distillation_losses.png", "reliability.png", "report.json", "report.md",
        "training_curves.png",
    ]
    stored = json.loads((tmp_path / "report.json").read_text())
    assert stored == plain(example())
    assert "distillation_efficiency" not in stored["students"]["light"]
    page = path.read_text()
    assert "| teacher | 0.7900 | 0.7211 | 0.5312 | 0.8123 | 1.0123 | 0.0125 | 451,234 " in page
    assert "| control: light.alone | 0.7700 |" in page
    assert "| data fingerprint | f00d |" in page
    assert "| data dropped_fields | item_mean |" in page
    assert "| light |  | 1: 3.5, 500: 10.23 | 1,234,567 |  |" in page
    assert "| new_user | 12 | 0.6100 |  |" in page
    assert "| job=a\\|b | 3 |  | 0.7000 |" in page
    assert "![Reliability](reliability.png)" in page
    assert "exported student: `exported/ml100k_dev/1`" in page
    assert "python -m pipelines.train seed=1" in page
    assert "seed: 1" in page


def test_distillation_efficiency_stands_with_its_interval(tmp_path):
    report = example()
    report["students"]["light"] |= {"distillation_efficiency": 0.8712345,
                                    "distillation_efficiency_interval": [0.65, 1.021]}
    report["students"]["tiny"]["distillation_efficiency"] = 0.5
    page = write_report(tmp_path, report).read_text()
    assert "| light | 0.87 [0.65, 1.02] | 1: 3.5, 500: 10.23 |" in page
    assert "| tiny | 0.50 |  |" in page
    del report["export"]
    console = Console(width=110, color_system=None)
    with console.capture() as captured:
        show_result(console, tmp_path, {**report, "job": "evaluate", "tracking_uri": "sqlite:///"})
    assert "distillation efficiency of light: 0.87 [0.65, 1.02]" in captured.get()


def test_weighted_metrics_have_a_table_of_their_own(tmp_path):
    report = {"teacher": {"auc": 0.8, "weighted": {"auc": 0.75, "log_loss": 0.5}}}
    page = write_report(tmp_path, report).read_text()
    assert "| teacher | 0.7500 |  | 0.5000 |  |  |" in page


IMPORTANCE = {"teacher": {"item": {"auc_loss": 0.1234, "error": 0.01},
                          "dwell": {"auc_loss": -0.01, "error": 0.002}},
              "light": {"item": {"auc_loss": 0.2, "error": 0.011}}}


def test_fields_have_a_table_and_a_picture(tmp_path):
    page = write_report(tmp_path, {**example(), "importance": IMPORTANCE}).read_text()
    assert "| item | +0.1234 ± 0.0200 | +0.2000 ± 0.0220 |" in page
    assert "| dwell | -0.0100 ± 0.0040 | not read |" in page
    assert "![Importance of fields](importance.png)" in page
    console = Console(width=110, color_system=None)
    with console.capture() as captured:
        console.print(importance_table(IMPORTANCE))
    assert ["dwell", "-0.0100", "±", "0.0040", "not", "read"] in [
        line.split() for line in captured.get().splitlines()]


def test_ranking_agreement_has_a_table(tmp_path):
    report = example()
    report["students"]["light"]["ranking_agreement"] = {
        "top_overlap": 0.91, "top_overlap_by_chance": 0.4, "top_groups": 1234, "ndcg": 0.998,
        "ndcg_groups": 2000}
    report["students"]["tiny"]["ranking_agreement"] = {"ndcg": 0.97, "ndcg_groups": 2000}
    page = write_report(tmp_path, report).read_text()
    assert "| light | 0.91 | 0.4 | 1,234 | 0.998 | 2,000 |" in page
    assert "| tiny |  |  |  | 0.97 | 2,000 |" in page


def test_a_run_that_has_only_begun_can_be_reported(tmp_path):
    page = write_report(tmp_path, {"job": "train", "status": "running"}).read_text()
    assert "Nothing was measured." in page
    assert "## Figures" not in page
    assert sorted(one.name for one in tmp_path.iterdir()) == ["report.json", "report.md"]


def test_a_figure_that_breaks_never_loses_the_report(tmp_path, caplog):
    broken = {"teacher": (np.array([0, 1]), np.array([0.5, 7.0]), None)}
    with caplog.at_level(logging.WARNING):
        page = write_report(tmp_path, example(), history=HISTORY, reliability=broken).read_text()
    assert json.loads((tmp_path / "report.json").read_text())["status"] == "done"
    assert "reliability.png could not be drawn: probabilities must lie in [0, 1]" in caplog.text
    assert "Reliability could not be drawn" in page
    assert "![Training curves](training_curves.png)" in page
    assert not (tmp_path / "reliability.png").exists()


def test_the_numbers_are_on_disk_before_anything_is_drawn(tmp_path):
    class Interrupted:
        def __iter__(self):
            assert (tmp_path / "report.json").exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_report(tmp_path, example(), history=Interrupted())
    report = json.loads((tmp_path / "report.json").read_text())
    # Not yet done: the run is gone on with, and gets its figures.
    assert (report["job"], report["status"]) == ("train", "running")


def test_a_value_that_json_does_not_know_writes_nothing(tmp_path):
    with pytest.raises(TypeError, match=r"report\.teacher must be .* got object"):
        write_report(tmp_path, {"teacher": object()})
    assert list(tmp_path.iterdir()) == []


def test_writing_again_replaces_the_page(tmp_path):
    write_report(tmp_path, {"job": "train", "status": "running"})
    page = write_report(tmp_path, example()).read_text()
    assert "| status | done |" in page
    assert page == write_report(tmp_path, example()).read_text()


def test_the_page_links_what_lies_in_the_folder(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").write_text("seed: 1")
    (tmp_path / "tb").mkdir()
    (tmp_path / "tb" / "events.out.tfevents.1").touch()
    page = write_report(tmp_path, {"job": "train"}).read_text()
    assert "[`checkpoints`](checkpoints)" in page
    assert "[`config.yaml`](config.yaml)" in page
    assert "[`report.json`](report.json)" in page
    assert "tensorboard --logdir" in page
