"""Reading a composed configuration: plain values, absolute paths, the students by name."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from dualdnn.errors import ConfigError
from pipelines.student_grid import searched_students
from pipelines.students import is_student_name

_PATHS = ("paths.outputs", "paths.exported_models", "paths.state", "data.lake", "data.raw",
          "source")


def given_overrides() -> list[str]:
    """The overrides of the command line, as `key=value` without hydra's + and ~."""
    overrides: list[str] = list(HydraConfig.get().overrides.task)
    return [override.lstrip("+~") for override in overrides]


def given_state(settings: Mapping[str, Any]) -> Path | None:
    """`paths.state` where the command line names it; None leaves a finished run to its own."""
    is_given = any(override.startswith("paths.state=") for override in given_overrides())
    return Path(settings["paths"]["state"]) if is_given else None


def command_of(job: str) -> str:
    """The command that repeats this job, be it one of a sweep, from the beginning."""
    runtime = HydraConfig.get()
    folders = [source.path for source in runtime.runtime.config_sources
               if source.provider == "command-line"]
    given = [override for override in runtime.overrides.task
             if not override.startswith(("resume=", "reuse="))]
    return shlex.join(["python", "-m", f"pipelines.{job}",
                       *(part for folder in folders for part in ("--config-dir", folder)), *given])


def _file_of(group: str, name: str, named_by: str, keys: str) -> DictConfig:
    """`GROUP/NAME.yaml` of any config directory, with its own defaults list."""
    searchpath = [o for o in HydraConfig.get().overrides.hydra if o.startswith("hydra.searchpath")]
    job = HydraConfig.get().job.config_name
    known = GlobalHydra.instance().config_loader().get_group_options(
        group, config_name=job, overrides=searchpath)
    if name not in known:
        raise ConfigError(f"{named_by} names `{name}`, but there is no {group}/{name}.yaml in any "
                          f"config directory; there are {', '.join(known)}.")
    found = hydra.compose(job, overrides=[*searchpath, f"{group}={name}"])[group]
    if not isinstance(found, DictConfig):
        raise ConfigError(f"{group}/{name}.yaml must hold the keys of a {group}, {keys} and "
                          "so on, in the package of its group.")
    return found


def _student_file(name: str) -> DictConfig:
    return _file_of("student", name, "students", "hidden_units")


def _losses_file(name: str) -> dict[str, Any]:
    """In what `distillation/NAME.yaml` differs from the file that the run has chosen.

    So that a change to the run's distillation stays where the two files agree.
    """
    chosen = HydraConfig.get().runtime.choices["distillation"]
    if name == chosen:
        return {}
    wanted, of_run = (_values(_file_of("distillation", one, "student_search.grid.distillation",
                                       "soft_label_weight")) for one in (name, chosen))
    return {key: value for key, value in wanted.items()
            if key not in of_run or of_run[key] != value}


def _values(config: DictConfig) -> Any:
    return OmegaConf.to_container(config, resolve=False)


def _student_names(config: DictConfig, mistakes: list[str]) -> list[str]:
    """The students of the run: those of `students`, else the one of `student=NAME`."""
    names, chosen = config.students, HydraConfig.get().runtime.choices.get("student")
    if names is None:
        if chosen is None:
            mistakes.append("student=null chooses no student. Use students=[] to train the "
                            "teacher alone.")
        return [chosen] if chosen else []
    names = OmegaConf.to_container(names) if OmegaConf.is_config(names) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        mistakes.append(f"students must be a list of names such as [light,tiny], got {names!r}. "
                        "Use [] to train the teacher alone.")
        return []
    if len(set(names)) < len(names):
        mistakes.append(f"students lists a name twice: {', '.join(names)}.")
    if any(override.startswith("student=") for override in given_overrides()):
        mistakes.append(f"student={chosen} and students=[{','.join(names)}] are both given. Name "
                        "all students in students, and leave student out.")
    elif chosen and _values(config.student) != _values(_student_file(chosen)):
        mistakes.append(f"student.* changes the student `{chosen}` of student=NAME, but students="
                        f"[{','.join(names)}] is given. Use student_overrides.NAME.KEY=VALUE.")
    return names


def _grid(config: DictConfig, mistakes: list[str]) -> dict[str, DictConfig]:
    """The configuration of every student of `student_search`."""
    base = HydraConfig.get().runtime.choices.get("student")
    before = len(mistakes)
    if config.students is not None:
        mistakes.append("students and student_search are both given. Leave students out: the grid "
                        "says which there are, and student=NAME what they start from.")
    if config.student_overrides:
        mistakes.append("student_overrides and student_search are both given. Change what all "
                        "students of the grid start from: student=NAME, student.KEY=VALUE.")
    if base is None:
        mistakes.append("student=null leaves student_search nothing to start from. Choose one "
                        "with student=NAME.")
    if len(mistakes) > before:
        return {}
    found = searched_students(config.student_search, base, config.student, _losses_file, mistakes)
    return {name: one for name, one in found.items() if is_student_name(name, mistakes)}


def _overridden(found: DictConfig, overrides: Any, where: str, mistakes: list[str]) -> DictConfig:
    """A file with the changes that are given for it, `where` says which."""
    own = overrides.get(where.partition(".")[2])
    if own is not None and not isinstance(own, DictConfig):
        mistakes.append(f"{where} must be {where}.KEY=VALUE, got {own!r}.")
        own = None
    found = found.copy()
    OmegaConf.set_struct(found, False)
    try:
        return OmegaConf.merge(found, own or {})
    except OmegaConfBaseException as error:
        mistakes.append(f"{where}: {str(error).splitlines()[0]}.")
        return found


def _students(config: DictConfig, mistakes: list[str]) -> dict[str, Any]:
    """The configuration of every student: its file with its overrides."""
    if config.get("student_search") is not None:
        return _grid(config, mistakes)
    names = _student_names(config, mistakes)
    overrides = config.student_overrides
    if not isinstance(overrides, DictConfig):
        mistakes.append(f"student_overrides must be student_overrides.NAME.KEY=VALUE, got "
                        f"{overrides!r}.")
        overrides = {}
    for name in overrides:
        if name not in names:
            mistakes.append(f"student_overrides.{name}: `{name}` is not among the students of "
                            f"this run: {', '.join(names) or 'none'}.")
    configs = {}
    for name in dict.fromkeys(names):
        if not is_student_name(name, mistakes):
            continue
        try:
            found = _student_file(name) if config.students is not None else config.student
        except ConfigError as error:
            mistakes.extend(error.mistakes)
            continue
        configs[name] = _overridden(found, overrides, f"student_overrides.{name}", mistakes)
    return configs


def _baselines(config: DictConfig, mistakes: list[str]) -> dict[str, Any]:
    """The configuration of every baseline: its file with its overrides."""
    names = config.get("baselines", [])
    names = OmegaConf.to_container(names) if OmegaConf.is_config(names) else names
    if (chosen := HydraConfig.get().runtime.choices.get("baseline_model")) is not None:
        mistakes.append(f"baseline_model={chosen} is not how baselines are chosen. Name them "
                        f"in a list, as in baselines=[{chosen}].")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        mistakes.append(f"baselines must be a list of names such as [fm,deepfm], got {names!r}. "
                        "Use [] for none.")
        return {}
    if len(set(names)) < len(names):
        mistakes.append(f"baselines lists a name twice: {', '.join(names)}.")
    overrides = config.get("baseline_overrides", {})
    if not isinstance(overrides, DictConfig | dict):
        mistakes.append("baseline_overrides must be baseline_overrides.NAME.KEY=VALUE, got "
                        f"{overrides!r}.")
        overrides = {}
    mistakes += [f"baseline_overrides.{name}: `{name}` is not among the baselines of this run: "
                 f"{', '.join(names) or 'none'}." for name in overrides if name not in names]
    configs: dict[str, Any] = {}
    for name in dict.fromkeys(names):
        try:
            found = _file_of("baseline_model", name, "baselines", "interactions")
        except ConfigError as error:
            mistakes.extend(error.mistakes)
            continue
        configs[name] = _overridden(found, overrides, f"baseline_overrides.{name}", mistakes)
    return configs


def plain_values(config: DictConfig, mistakes: list[str]) -> dict[str, Any]:
    """A configuration as plain values, its paths absolute.

    Args:
        config: of any job.
        mistakes: receives what is wrong, one sentence each.
    """
    config = config.copy()
    for key in _PATHS:
        value = OmegaConf.select(config, key)
        if isinstance(value, str) and value:
            # Against the folder the command was started in; a run may be read from another.
            OmegaConf.update(config, key, str(Path(value).expanduser().absolute()))
    for i, field in enumerate(OmegaConf.select(config, "data.fields") or []):
        # A file of vectors, as well.
        if isinstance(field, DictConfig) and isinstance(field.get("file"), str):
            OmegaConf.update(config, f"data.fields.{i}.file",
                             str(Path(field.file).expanduser().absolute()))
    towers = OmegaConf.select(config, "teacher.towers")
    for name, tower in towers.items() if isinstance(towers, DictConfig) else ():
        for key in ("run", "scores"):
            if isinstance(tower, DictConfig) and isinstance(tower.get(key), str):
                OmegaConf.update(config, f"teacher.towers.{name}.{key}",
                                 str(Path(tower[key]).expanduser().absolute()))
    mistakes.extend(f"{key} has no value. Give it one with {key}=VALUE."
                    for key in sorted(OmegaConf.missing_keys(config)))
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def unknown_mistakes(settings: Mapping[str, Any], known: Sequence[str]) -> list[str]:
    """One sentence for every setting that a job does not have.

    Args:
        settings: of the job.
        known: those that it has.
    """
    return [f"`{key}` is not a setting of this job; remove it. Known are {', '.join(known)}."
            for key in settings if key not in known]


def resolved(config: DictConfig, mistakes: list[str] | None = None) -> dict[str, Any]:
    """The configuration of `train` as plain values; `student_configs`, `baseline_configs` by name.

    Args:
        config: as hydra composed it.
        mistakes: receives what is wrong, so that `plan_from` can report it with its own.

    Raises:
        ConfigError: `mistakes` is None and `students` or `student_overrides` is malformed, a
            student is unknown, or a value is missing.
    """
    found: list[str] = []
    config = config.copy()
    configs, baselines = _students(config, found), _baselines(config, found)
    with open_dict(config):
        config.student_configs = configs
        config.pop("student")
        config.students = list(configs)
        config.baseline_configs = baselines
        config.pop("baseline_model", None)
    settings = plain_values(config, found)
    if mistakes is None and found:
        raise ConfigError(found)
    if mistakes is not None:
        mistakes.extend(found)
    return settings


def composed(job: str, overrides: list[str]) -> DictConfig:
    """Compose `conf/JOB.yaml` as the command line would, inside `hydra.initialize_config_dir`."""
    config = hydra.compose(job, overrides=overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    return config
