"""Weights files: read without pickle, brought to a network's names and shapes, compared tensor by tensor, loaded."""

import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kinsight.errors import DataError

State = dict[str, Tensor]
_NESTED = ("state_dict", "model", "model_state_dict")
_PREFIXES = ("module.", "_orig_mod.", "backbone.", "encoder.", "model.", "net.")
_HEADS = ("fc", "head", "classifier", "last_linear", "heads", "head_dist", "neck", "pooling", "aux", "loss")
_SHOWN = 10


class Loaded(NamedTuple):
    """What loading did. tensors: how many were loaded. notes: what was left out or adapted, for people."""

    tensors: int
    notes: tuple[str, ...]


def read_state(path: Path, source: str) -> State:
    """Tensors of a safetensors or torch file on the CPU. source: what messages call it.

    Raises DataError for a file that is neither, that needs pickle, or that holds no tensors.
    """
    with path.open("rb") as file:
        start = file.read(10)
    is_torch = start[:2] in (b"PK", b"\x80\x02")  # a zip archive, or the format before it
    try:
        content = _read_torch(path) if is_torch else _read_safetensors(path)
    except Exception as error:
        raise _unreadable(source, error) from error
    state = _tensors(content)
    if not state:
        raise DataError("weights.empty", f"{source}: holds no tensors", field="model.pretrained")
    return state


def load_state(
    net: nn.Module, state: State, *, source: str, first_conv: Iterable[str] = (), field: str = "model.pretrained"
) -> Loaded:
    """Load a backbone's tensors, whatever wrapper wrote them; classification heads and necks are left out.

    first_conv: names of convolutions whose colour weights are summed for a network of grey images.
    Raises DataError, loading nothing, where a tensor is missing or has another shape.
    """
    wanted = net.state_dict()
    state, left_out = _unwrap(state, wanted)
    state = _rearranged(net, state, source)
    notes = _adapt_first_conv(state, wanted, first_conv)
    found = {key: value for key, value in state.items() if key in wanted}
    if not found:
        raise _nothing_matches(source, state, wanted, field)
    problems = list(_problems(found, wanted, learned={key for key, _ in net.named_parameters()}))
    if problems:
        raise _mismatch(source, problems, len(wanted), field)
    net.load_state_dict(found, strict=False)
    notes += _left_out_notes(source, [*left_out, *(key for key in state if key not in wanted)], state)
    return Loaded(len(found), tuple(notes))


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors.torch import load_file

    return load_file(path, device="cpu")


def _read_torch(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


def _unreadable(source: str, error: Exception) -> DataError:
    unsafe = "weights_only" in str(error).lower() or "unpickl" in type(error).__name__.lower()
    reason = "it holds more than tensors" if unsafe else str(error).splitlines()[0]
    return DataError(
        "weights.unreadable",
        f"{source}: cannot be read as weights: {reason}",
        field="model.pretrained",
        remedy="give a safetensors file, or a torch file that holds a dictionary of tensors only",
    )


def _tensors(content: Any) -> State:
    """The innermost dictionary of tensors."""
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _NESTED if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
        content = inner
    return {}


def _unwrap(state: State, wanted: Mapping[str, Tensor]) -> tuple[State, list[str]]:
    """Strip the prefixes of wrappers; once one is found, what does not carry it is no part of the backbone."""
    left_out: list[str] = []
    stripped = True
    while stripped:
        stripped = False
        for prefix in _PREFIXES:
            inside = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            if inside and not any(key.startswith(prefix) for key in wanted):
                left_out += [key for key in state if not key.startswith(prefix)]
                state, stripped = inside, True
    return dict(state), left_out


def _rearranged(net: nn.Module, state: State, source: str) -> State:
    """timm's own conversion of older names and of position tables to this image size, where it has one."""
    convert = getattr(sys.modules.get(type(net).__module__), "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        with warnings.catch_warnings():
            # Of torch, about how timm indexes the small tables that it resamples.
            warnings.filterwarnings("ignore", message=".*(non-contiguous|non-tuple sequence)")
            return dict(convert(state, net))
    except Exception as error:
        if not any(key in state for key in net.state_dict()):
            return state  # of another network: the comparison says so
        raise DataError(
            "weights.mismatch", f"{source}: does not fit the backbone: {error}", field="model.pretrained"
        ) from error


def _adapt_first_conv(state: State, wanted: Mapping[str, Tensor], first_conv: Iterable[str]) -> list[str]:
    from timm.models import adapt_input_conv

    notes = []
    for name in first_conv:
        here, there = wanted.get(f"{name}.weight"), state.get(f"{name}.weight")
        if here is None or there is None or here.ndim != 4 or there.ndim != 4:
            continue
        if here.shape[1] == 1 and there.shape[1] == 3:
            state[f"{name}.weight"] = adapt_input_conv(1, there)
            notes.append(f"{name}: the weights of three colours were summed for grey images")
    return notes


def _problems(found: State, wanted: Mapping[str, Tensor], learned: set[str]) -> Iterable[str]:
    for key, here in wanted.items():
        there = found.get(key)
        if there is None:
            if key in learned or key.endswith(("running_mean", "running_var")):
                yield f"{key}: {tuple(here.shape)} here, not in the file"
        elif there.shape != here.shape:
            yield f"{key}: {tuple(here.shape)} here, {tuple(there.shape)} in the file"


def _mismatch(source: str, problems: list[str], total: int, field: str) -> DataError:
    shown = "\n  ".join(problems[:_SHOWN])
    more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return DataError(
        "weights.mismatch",
        f"{source}: {len(problems)} of the backbone's {total} tensors do not fit:\n  {shown}{more}",
        field=field,
        remedy="set model.backbone to the network these weights belong to",
    )


def _nothing_matches(source: str, state: State, wanted: Mapping[str, Tensor], field: str) -> DataError:
    there, here = (", ".join(list(keys)[:3]) for keys in (state, wanted))
    return DataError(
        "weights.mismatch",
        f"{source}: no tensor has a name of this backbone (there: {there or 'nothing'}, ...; here: {here}, ...)",
        field=field,
        remedy="set model.backbone to the network these weights belong to",
    )


def _left_out_notes(source: str, keys: list[str], state: State) -> list[str]:
    heads = [key for key in keys if key.split(".")[0] in _HEADS or ".fc." in f".{key}"]
    others = [key for key in keys if key not in heads]
    notes = []
    if heads:
        shapes = ", ".join(f"{key} {tuple(state[key].shape)}" if key in state else key for key in heads[:4])
        notes.append(f"{source}: left out, not part of the backbone: {shapes}{', ...' if len(heads) > 4 else ''}")
    if others:
        notes.append(f"{source}: {len(others)} tensors unknown to the backbone: {', '.join(others[:4])}")
    return notes
