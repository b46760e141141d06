"""`finetune scope=student source=FOLDER`: online fine-tuning without a broker."""

from __future__ import annotations

import datetime
import time
from pathlib import Path

from rich.console import Console

from dualdnn.data.dropped_files import DroppedFile, dropped_files
from dualdnn.errors import DataError, NonFiniteError, RejectedError, StaleChampionError
from dualdnn.evaluation.decision import Decision
from dualdnn.export.champion import champion_of
from dualdnn.storage import lock
from pipelines.daily_job import DailyJob, cost_of
from pipelines.finetune_plan import FinetunePlan, OnlineSettings
from pipelines.online_report import OnlineReport, show_online
from pipelines.online_student import OnlineStudent
from pipelines.record import recorded
from pipelines.runs import new_run, same_run

_JOB = "finetune"


def follow_files(plan: FinetunePlan, source: Path, console: Console) -> None:
    """Learn files as they are dropped, and publish what the gate accepts, until idle for long.

    Args:
        plan: of the job.
        source: the folder.
        console: where to tell.

    Raises:
        DataError: no such folder or no champion; or all files that there were had to be refused.
        LockError: another process follows files for the same model.
        RejectedError: the last that was learned was rejected by the gate.
    """
    began, daily = time.monotonic(), plan.daily
    paths, model = daily.settings["paths"], daily.towers.schema.name
    state, outputs = Path(paths["state"]) / model, Path(paths["outputs"])
    with lock(state / ".online.lock", wait=False):
        exported = Path(paths["exported_models"]) / model
        if champion_of(exported) is None:
            raise DataError(f"{exported} has no champion to go on from. Run "
                            f"python -m pipelines.retrain data={model} first.")
        dropped_files(source)
        run = (same_run(outputs, _JOB, daily.settings, finished=False)
               or new_run(outputs, _JOB, daily.settings))
        job = DailyJob(name=_JOB, plan=daily, run=run, console=console, started=began,
                       as_of=datetime.datetime.now(datetime.UTC).date())
        with recorded(run, _JOB, daily.settings, model) as record:
            report = OnlineReport(record, plan.online.report_days)
            follower = _Follower(job, plan.online, source, report)
            follower.run()
            values = report.write("done", cost_of(job), daily.towers.seed)
            report.close(values)
        show_online(console, run, values)
        if report.refused and not report.counts["files"]:
            name, why = next(iter(report.refused.items()))
            raise DataError(f"nothing was learned: {len(report.refused)} files were refused, the "
                            f"first was {name}: {why}")
        if follower.last and not follower.last.accepted:
            raise RejectedError(f"what was learned last was {follower.last.summary} Version "
                                f"{follower.student.version} stays.")


class _Follower:
    """The loop over files, publications and new champions."""

    def __init__(self, job: DailyJob, online: OnlineSettings, source: Path,
                 report: OnlineReport) -> None:
        self.job, self.online, self.source, self.report = job, online, source, report
        self.student = OnlineStudent(job)
        self.last: Decision | None = None
        self._refused: dict[str, list[int]] = {}
        self._tell(f"goes on from version {self.student.version} of {job.model}")

    def _tell(self, words: str) -> None:
        self.job.console.print(words, soft_wrap=True, markup=False)

    def run(self) -> None:
        """Until nothing has come for as long as the settings say."""
        newest, idle = time.monotonic(), self.online.idle_minutes
        while True:
            files = self._new_files()
            for file in files:
                if not self._goes_on_after(file):
                    break  # other files may be new by now
            newest = time.monotonic() if files else newest
            if self.student.champion_changed:
                self._begin_again()
                continue
            if files:
                continue
            ends = idle is not None and time.monotonic() - newest >= 60 * idle
            if self._is_due(ends):
                self._publish()
            elif ends:
                break
            else:
                time.sleep(self.online.poll_seconds)
        self.student.close()

    def _goes_on_after(self, file: DroppedFile) -> bool:
        """Take a file, and publish where it is time; False where the student began again."""
        if self.student.champion_changed:
            return False
        took = self._take(file)
        return took and (not self._is_due() or self._publish())

    def _begin_again(self) -> None:
        self.student.begin()
        self.report.counts["restarts"] += 1
        self._tell(f"version {self.student.version} was published: the student begins again "
                   "from it")

    def _new_files(self) -> list[DroppedFile]:
        files = dropped_files(self.source)
        self.student.forget_all_but({file.path.name for file in files})
        return [file for file in files if self.student.is_new(file)
                and self._refused.get(file.path.name) != file.signature]

    def _take(self, file: DroppedFile) -> bool:
        """False where the student began again."""
        name = file.path.name
        try:
            scored = self.student.take(file)
        except DataError as error:  # the others can do nothing for it
            self._refused[name], self.report.refused[name] = file.signature, str(error)
            self._tell(f"refused {name}: {error}")
            return True
        except NonFiniteError as error:
            self._give_up_step(error, file)
            return False
        self.report.refused.pop(name, None)
        if scored is not None:
            self.report.add(name, scored)
        return True

    def _give_up_step(self, error: NonFiniteError, file: DroppedFile | None = None) -> None:
        gone = self.student.give_up_step(file)
        self.report.refused |= dict.fromkeys(gone, str(error))
        self._tell(f"gave up {', '.join(gone)}: {error}" if gone else
                   f"{error} Rows of several files were learned together: the student begins again "
                   "and learns each by itself")

    def _is_due(self, at_the_end: bool = False) -> bool:
        """Is it time to publish, and is there enough to judge by?"""
        rows, minutes = self.online.publish_rows, self.online.publish_minutes
        waits = self.student.rows_to_publish
        is_time = (at_the_end or (rows is not None and waits >= rows)
                   or (minutes is not None and self.student.minutes_waited >= minutes))
        return is_time and self.student.can_be_judged()

    def _publish(self) -> bool:
        """False where the student begins again instead."""
        rows, changed = self.student.rows_to_publish, self.student.changed_rows
        try:
            self.last = self.student.publish()
        except StaleChampionError:  # the loop sees it next
            return False
        except NonFiniteError as error:
            self._give_up_step(error)
            return False
        if self.last.accepted:
            self.report.counts["published"].append(self.student.version)
            self._tell(f"published version {self.student.version}: {rows:,} rows learned, "
                       f"{changed:,} rows of the table changed since version "
                       f"{self.student.offline_version}")
        else:
            self.report.counts["rejected"] += 1
            self._tell(f"{rows:,} rows were learned and {self.last.summary}")
        self.report.write("running", cost_of(self.job), self.job.plan.towers.seed)
        return True
