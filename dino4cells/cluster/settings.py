"""What a platform engineer decides about the jobs of a cluster: one file, whose every key is an option too.

```yaml
image: registry.example/dino4cells:0.1.0
nodes: 2
resources: {cpu: "8", memory: 64Gi, gpus: 1}
secrets:
- {variable: AWS_ACCESS_KEY_ID, secret: store, key: accesskey}
placement:
  tolerations: [{key: nvidia.com/gpu}]
  queue: biology
```
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from dino4cells import storage
from dino4cells.cluster.job import (
    DAY_SECONDS,
    STRICT_KEYS,
    Authority,
    ConfigFile,
    JobSpec,
    Placement,
    Resources,
    SecretVariable,
    Toleration,
)
from dino4cells.config.values import suggestion
from dino4cells.errors import ConfigError


@dataclass(frozen=True)
class JobSettings:
    """The part of a `JobSpec` that belongs to the cluster and not to the work; the fields are those of `JobSpec`.

    Attributes:
        processes_per_node: None: one a GPU, or one where there is none.
    """

    __pydantic_config__ = STRICT_KEYS

    image: str = ""
    nodes: int = 1
    processes_per_node: int | None = None
    min_nodes: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    secrets: tuple[SecretVariable, ...] = ()
    config: ConfigFile | None = None
    authority: Authority | None = None
    placement: Placement = field(default_factory=Placement)
    tolerated_failures: int = 3
    keep_seconds: int = DAY_SECONDS

    def job(self, name: str, module: str, arguments: tuple[str, ...]) -> JobSpec:
        """The job that runs a module on this cluster."""
        own = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        own["processes_per_node"] = self.processes_per_node or max(1, self.resources.gpus)
        return JobSpec(name, module, arguments, **own)


def read_settings(sources: Sequence[str] = (), overrides: Mapping[str, str] | None = None) -> JobSettings:
    """Settings from YAML files, a later one over an earlier, with single values over all.

    Args:
        sources: paths or URLs of files, or none: the defaults. Sections merge, lists are replaced.
        overrides: text by dotted key, such as `{"resources.gpus": "2"}`; it is read as YAML.

    Raises:
        ConfigError: an unknown key, or a value of the wrong kind.
        StorageError: the file cannot be read.

    Example:
        >>> read_settings(overrides={"nodes": "2", "resources.cpu": "8"}).resources.cpu
        '8'
    """
    return _settings({source: storage.read_text(source) for source in sources}, overrides)


def parse_settings(text: str, overrides: Mapping[str, str] | None = None, where: str = "settings") -> JobSettings:
    """Settings from the text of a file, which may be empty, with single values over it; `where` names the text in errors.

    Raises:
        ConfigError: an unknown key, or a value of the wrong kind.
    """
    return _settings({where: text} if text.strip() else {}, overrides)


def _settings(texts: Mapping[str, str], overrides: Mapping[str, str] | None) -> JobSettings:
    values: dict[str, Any] = {}
    for source, source_text in texts.items():
        content = _read_yaml(source_text, source)
        if not isinstance(content, dict):
            raise ConfigError(f"{source}: must hold keys such as `image:` and `nodes:`, not {type(content).__name__}.")
        _merge(values, content)
    for key, text in (overrides or {}).items():
        *sections, last = key.split(".")
        place = values
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{key}: {section} is no section that has keys.")
        place[last] = _read_yaml(text, key) if text[:1] in "[{" else text
    try:
        return _ADAPTER.validate_python(values)
    except ValidationError as error:
        raise _refusal(error, " over ".join(reversed(list(texts))), overrides or {}) from error


def _merge(values: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        below = values.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            _merge(below, value)
        else:
            values[key] = value


_ADAPTER = TypeAdapter(JobSettings)
_SECRETS = "write for example [{variable: AWS_ACCESS_KEY_ID, secret: store, key: accesskey}], never the value itself"
_KINDS = {"int_parsing": "must be a whole number", "bool_parsing": "must be true or false", "string_type": "must be a text"}


def _refusal(error: ValidationError, source: str, overrides: Mapping[str, str]) -> ConfigError:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(step) for step in first["loc"])
    place = f"option {key}" if key in overrides or not source else f"{source}: {key}"
    if first["type"] == "unexpected_keyword_argument":
        known = _keys_of(first["loc"][:-1])
        return ConfigError(f"{place}: is no key here{suggestion(str(first['loc'][-1]), known)}; the keys are {', '.join(known)}.")
    if first["type"] == "missing":
        return ConfigError(f"{place}: is missing; give it.")
    reason = _KINDS.get(first["type"], "must be " + first["msg"].removeprefix("Input should be "))
    if first["loc"][0] in ("secrets", "environment"):
        # Where names of secrets are wanted, somebody may have written the secrets themselves.
        return ConfigError(f"{place}: {reason}; {_SECRETS if first['loc'][0] == 'secrets' else 'correct it'}.")
    return ConfigError(f"{place}: {reason}, not {first['input']!r}; correct it.")


def _keys_of(path: tuple[int | str, ...]) -> list[str]:
    """Keys of the section that a path leads to; numbers in it are places in a list."""
    sections: dict[str, type] = {
        "resources": Resources, "secrets": SecretVariable, "config": ConfigFile, "authority": Authority, "placement": Placement,
        "tolerations": Toleration,
    }  # fmt: skip
    names = [step for step in path if isinstance(step, str)]
    kind = sections.get(names[-1], JobSettings) if names else JobSettings
    return [item.name for item in dataclasses.fields(kind)]


def _read_yaml(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: is no valid YAML ({str(error).splitlines()[0]}); close every bracket and quote.") from error
