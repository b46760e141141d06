"""Replaying days: every strategy learns what it would have known, then scores the next day."""

from __future__ import annotations

import datetime
import functools
import resource
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from dualdnn.data.examples import Examples, open_examples
from dualdnn.data.row_map import RowMap, RowMap as _RowMap, build_row_map
from dualdnn.data.window import ChosenDays
from dualdnn.errors import DataError
from dualdnn.evaluation.backtest_regression import STRENGTHS, chosen_strength, logits_by_strength
from dualdnn.evaluation.backtest_results import DayResult, day_path, read_day
from dualdnn.models.dual_dnn import TEACHER
from dualdnn.storage import atomic_folder
from dualdnn.training.learner import Learner, open_state
from dualdnn.training.strategies import REGRESSION, ScoredDay, Training
from dualdnn.training.trainer import Trainer
from pipelines.backtest_plan import BacktestPlan
from pipelines.build import new_learner
