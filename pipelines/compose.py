"""Reading a composed configuration: the students by name, and everything resolved."""

from __future__ import annotations

from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from dualdnn.errors import ConfigError


def _student_file(name: str) -> DictConfig:
    """`student/NAME.yaml` of any config directory."""
    repository = GlobalHydra.instance().config_loader().repository  # type: ignore[union-attr]
    found = repository.load_config(f"student/{name}")
    if found is None:
        known = GlobalHydra.instance().config_loader().get_group_options("student")  # type: ignore[union-attr]
        raise ConfigError(f"students names `{name}`, but there is no student/{name}.yaml in any "
                          f"config directory; there are {', '.join(known)}.")
    return found.config


def resolved(config: DictConfig) -> dict[str, Any]:
    """The configuration of `train` as plain values, with `student_configs` by name.

    Raises:
        ConfigError: `students` or `student_overrides` is malformed, or a student is unknown.
    """
    config = config.copy()
    names = OmegaConf.to_container(config)["students"]  # type: ignore[index,call-overload]
    if names is None:
        names = [HydraConfig.get().runtime.choices["student"]]
    mistakes = []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"students must be a list of names such as [light,tiny], got {names!r}. "
                          "Use [] to train the teacher alone.")
    if len(set(names)) < len(names):
        mistakes.append(f"students lists a name twice: {', '.join(names)}.")
    overrides = OmegaConf.to_container(config.student_overrides)
    for name in overrides:  # type: ignore[union-attr]
        if name not in names:
            mistakes.append(f"student_overrides.{name}: `{name}` is not among the students of "
                            f"this run: {', '.join(names) or 'none'}.")
    configs = {}
    for name in names:
        try:
            configs[name] = OmegaConf.merge(_student_file(name),
                                            config.student_overrides.get(name, {}))
        except ConfigError as error:
            mistakes.extend(error.mistakes)
    if mistakes:
        raise ConfigError(mistakes)
    with open_dict(config):
        config.students = names
        config.student_configs = configs
        config.pop("student")
    plain: dict[str, Any] = OmegaConf.to_container(  # type: ignore[assignment]
        config, resolve=True, throw_on_missing=True)
    return plain
