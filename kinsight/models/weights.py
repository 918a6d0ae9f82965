"""Where a backbone's first weights come from: nowhere, a file, or the published ones (own store, then the hub)."""

import logging
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from kinsight import storage
from kinsight.errors import KinsightError, SpecError, StorageError
from kinsight.models.backbones import pretrained_cfg
from kinsight.models.names import BackboneName, resolve
from kinsight.models.state import State, load_state, read_state

STORE_VARIABLE = "KINSIGHT_WEIGHTS"
_FIELD = "model.pretrained"
_PROBE_TIMEOUT_S = 5.0
_log = logging.getLogger("kinsight.models")


@dataclass(frozen=True)
class Origin:
    """Where weights came from. source: for people. licence: as their publisher states it, if he does."""

    source: str
    licence: str | None = None
    notes: tuple[str, ...] = ()


RANDOM = Origin("random")


def load_first_weights(
    net: nn.Module, name: BackboneName, pretrained: str | None, *, asked: bool, in_chans: int
) -> Origin:
    """Fill a new backbone as `pretrained` says: None, "default" or the address of a weights file.

    asked: whether the user set `pretrained`; then a backbone without published weights is an error, else a warning.
    Raises SpecError, StorageError or DataError; what deserves mention is logged and returned.
    """
    if pretrained is None:
        return RANDOM
    if pretrained == "default":
        found = _published(name, asked)
        if found is None:
            return RANDOM
        state, source, licence = found
    else:
        source, licence = str(storage.Address.parse(pretrained)), None
        state = read_state(storage.copy_in(pretrained), source)
    loaded = load_state(net, state, source=source, first_conv=first_conv_names(name) if in_chans == 1 else ())
    for note in loaded.notes:
        _log.warning(note)
    _log.info("%s: %d tensors from %s; licence: %s", name.name, loaded.tensors, source, licence or "not stated")
    return Origin(source, licence, loaded.notes)


def has_published_weights(backbone: str) -> bool:
    """Whether `pretrained: default` can find anything: in the store, or published. Raises SpecError as `resolve`."""
    name = resolve(backbone)
    cfg = pretrained_cfg(name)
    if cfg is not None and (cfg.hf_hub_id or _plain_url(cfg)):
        return True
    store = os.environ.get(STORE_VARIABLE)
    return bool(store) and any(storage.exists(storage.Address.parse(store).join(f)) for f in file_names(name, cfg))


def first_conv_names(name: BackboneName) -> tuple[str, ...]:
    """Convolutions that see the image's colours."""
    cfg = pretrained_cfg(name)
    if cfg is None:
        return ("convs.0", "conv1")  # of conv4, and of the residual network without a record of weights
    return (cfg.first_conv,) if isinstance(cfg.first_conv, str) else tuple(cfg.first_conv or ())


def _published(name: BackboneName, asked: bool) -> tuple[State, str, str | None] | None:
    """Published weights, their source and licence; None for a backbone without any."""
    cfg = pretrained_cfg(name)
    licence = cfg.license if cfg is not None else None
    if (stored := _from_store(name, cfg)) is not None:
        return *stored, licence
    if cfg is None or not (cfg.hf_hub_id or _plain_url(cfg)):
        _without_published(name, asked)
        return None
    if not cfg.hf_hub_id:
        return read_state(storage.copy_in(_plain_url(cfg)), name.name), name.name, licence
    return _from_hub(name, cfg.hf_hub_id), f"{cfg.hf_hub_id} (hub)", licence


def _plain_url(cfg: Any) -> str:
    """The address of a file in torch's format, for the few weights that stand outside the hub; else empty."""
    url = cfg.url or ""
    return url if isinstance(url, str) and url.startswith("http") and not cfg.custom_load else ""


def _without_published(name: BackboneName, asked: bool) -> None:
    message = f"{name.name} has no published weights"
    if asked:
        raise SpecError(
            "spec.no-published-weights",
            f"default: {message}",
            field=_FIELD,
            remedy="set it to null for random weights, or to the address of a weights file",
        )
    _log.warning("%s: it starts from random ones", message)


def file_names(name: BackboneName, cfg: Any | None) -> list[str]:
    """Names that the backbone's file may have in the store: with the tag of the default weights, or without."""
    plain = name.name.partition(".")[0]
    tag = getattr(cfg, "tag", None)
    full = name.name if "." in name.name else f"{plain}.{tag}" if tag else plain
    # A name with a tag asks for those very weights.
    names = [full] if "." in name.name else [full, plain]
    return [f"{each}.safetensors" for each in dict.fromkeys(names)]


def _from_store(name: BackboneName, cfg: Any | None) -> tuple[State, str] | None:
    store = os.environ.get(STORE_VARIABLE)
    if not store:
        return None
    for file in file_names(name, cfg):
        address = storage.Address.parse(store).join(file)
        if storage.exists(address):
            return read_state(storage.copy_in(address), str(address)), str(address)
    return None


def _from_hub(name: BackboneName, repository: str) -> State:
    """Weights from the hub's cache, or the hub if it answers within seconds: its client itself retries for a minute."""
    from huggingface_hub import constants, try_to_load_from_cache

    revision = None
    repository, _, revision = repository.partition("@")
    cached = try_to_load_from_cache(repository, "model.safetensors", revision=revision or None)
    if isinstance(cached, str):
        return read_state(Path(cached), name.name)
    if constants.HF_HUB_OFFLINE:
        raise _no_weights(name, "the hub is switched off by HF_HUB_OFFLINE")
    if (trouble := _hub_trouble(constants.ENDPOINT)) is not None:
        raise _no_weights(name, f"the hub does not answer ({trouble})")
    from timm.models import load_state_dict_from_hf

    try:
        return dict(load_state_dict_from_hf(f"{repository}@{revision}" if revision else repository))
    except KinsightError:
        raise
    except Exception as error:
        raise _no_weights(name, f"the hub did not give them ({str(error).splitlines()[0]})") from error


def _hub_trouble(endpoint: str) -> str | None:
    """Why the hub cannot be reached, or None where anything at all answers."""
    try:
        with urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=_PROBE_TIMEOUT_S):
            return None
    except urllib.error.HTTPError as answer:
        answer.close()
        return None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        return str(reason) or type(error).__name__


def _no_weights(name: BackboneName, why: str) -> StorageError:
    file = file_names(name, pretrained_cfg(name))[0]
    return StorageError(
        "storage.no-weights",
        f"default: no published weights of {name.name}: {why}, and {_store_lacks(file)}",
        field=_FIELD,
        remedy=f"put {file} into a folder or bucket and set {STORE_VARIABLE} to its address, "
        "or set model.pretrained to null (random weights) or to the address of a weights file",
    )


def _store_lacks(file: str) -> str:
    store = os.environ.get(STORE_VARIABLE)
    return f"{storage.Address.parse(store)} does not hold {file}" if store else f"{STORE_VARIABLE} is not set"
