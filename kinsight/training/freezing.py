"""Parts of the network that are not trained, for some steps or for good."""

from collections.abc import Iterator

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from kinsight.errors import SpecError
from kinsight.models import EmbeddingNet
from kinsight.specs.train import FreezeSpec


class Freezer:
    """Freezes and thaws as a spec says; a pure function of the step, so that a resumed training is in the same state.

    Raises SpecError where there are not as many layers, or nothing would be left to train.
    """

    def __init__(self, spec: FreezeSpec | None, net: EmbeddingNet, objective: nn.Module) -> None:
        self._spec = spec
        self._modules = list(_modules(spec, net)) if spec is not None else []
        chosen = set(_parameters(spec, net)) if spec is not None else set()
        self._parameters = [parameter for parameter in chosen if parameter.requires_grad]
        self._frozen = False
        left = [p for p in (*net.parameters(), *objective.parameters()) if p.requires_grad and p not in chosen]
        if spec is not None and not left:
            raise SpecError(
                "train.all-frozen",
                "the whole network is frozen and the loss has no weights: nothing is left to train",
                field="freeze.parts",
                remedy="leave the neck or a layer to be trained",
            )

    def at(self, step: int) -> bool:
        """Bring the network into the state it has to be in at this step (0 is the first); whether that changed."""
        spec = self._spec
        wanted = spec is not None and (spec.steps is None or step < spec.steps)
        changed = wanted != self._frozen
        if changed:
            for parameter in self._parameters:
                parameter.requires_grad_(not wanted)
                parameter.grad = None
            for module in self._modules:
                module.train(not wanted)
            self._frozen = wanted
        elif wanted:
            for module in self._modules:  # a validation has put the whole network back into training
                module.eval()
        return changed


def _parameters(spec: FreezeSpec, net: EmbeddingNet) -> Iterator[nn.Parameter]:
    if "backbone" in spec.parts:
        yield from net.backbone.parameters()
    if "neck" in spec.parts:
        yield from net.neck.parameters()
    for module in _modules(spec, net):
        yield from module.parameters(recurse=False)
    layers = net.backbone_layers()
    if spec.first_layers > max(layers.values()) + 1:
        raise SpecError(
            "train.layers",
            f"the backbone has {max(layers.values()) + 1} layers",
            field=f"freeze.first_layers={spec.first_layers}",
            remedy="freeze fewer, or freeze.parts=[backbone]",
        )
    yield from (parameter for name, parameter in net.backbone.named_parameters() if layers[name] < spec.first_layers)


def _modules(spec: FreezeSpec, net: EmbeddingNet) -> Iterator[nn.Module]:
    """Those with running statistics, or noise, in what is frozen."""
    if "backbone" in spec.parts:
        yield from net.backbone.modules()
    if "neck" in spec.parts:
        yield from net.neck.modules()
    layers = net.backbone_layers()
    for name, module in net.backbone.named_modules():
        if isinstance(module, _NormBase):
            inside = [layers[f"{name}.{own}"] for own, _ in module.named_parameters(recurse=False)]
            if "norms" in spec.parts or (inside and max(inside) < spec.first_layers):
                yield module
