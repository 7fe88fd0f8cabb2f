"""Go on from another network: that of a finished run, or of a shipped model.onnx or its 8-bit twin.

The export folds each batch norm into the convolution before it. Here the norms are put back so
that the network computes the same as the file, and their statistics are those of real batches:
training goes on where it stopped, instead of jumping at the first step.
"""

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from train import checkpoint
from train.config import stored_view_scales
from train.old_network import FORM, MobileNetUNet, network_of

FILTER_RMS = 0.15
"""Root mean square to which each filter is scaled; the norm behind it takes the factor back.

Folded filters differ a thousandfold in size, so that one learning rate would be far too much for
some and nothing for others. This is about what a run from scratch ends at.
"""


def normed_convolutions(network: nn.Module) -> Iterator[tuple[str, nn.Conv2d, nn.BatchNorm2d]]:
    """Every convolution that a batch norm follows, with its name in the state dict."""
    for parent, module in network.named_modules():
        children = list(module.named_children())
        for (name, first), (_, second) in itertools.pairwise(children):
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                yield f"{parent}.{name}", first, second


def read(path: Path) -> onnx.ModelProto:
    """Raises ValueError where the file cannot be read as ONNX."""
    try:
        return onnx.load(path)
    except Exception as error:
        raise ValueError(f"{path}: cannot be read as an ONNX file ({error})") from error


def facts(model: onnx.ModelProto) -> dict[str, str]:
    """What the file says about itself: its metadata_props."""
    return {p.key: p.value for p in model.metadata_props}


def network_like(model: onnx.ModelProto) -> MobileNetUNet:
    """An untrained network of the size that the model says to have."""
    return network_of(training_of(model))


def view_scales_of(model: onnx.ModelProto) -> tuple[float, ...]:
    """At which the model sees images; before version 0.6.0 they were those of the run."""
    if scales := facts(model).get("view_scales"):
        return tuple(json.loads(scales))
    return stored_view_scales(training_of(model))


def training_of(model: onnx.ModelProto) -> dict:
    """The settings of the run that the file comes from, without those that it does not tell."""
    return json.loads(facts(model).get("training", "{}"))


def form_of(path: Path) -> dict:
    """The settings that a run shares with the finished run or model.onnx that it goes on from.

    They are its network's form and the scales at which that sees images. Raises ValueError where it
    cannot be read.
    """
    file = checkpoint.file_of(path)
    if file.name == checkpoint.FILE:
        _, config, _ = checkpoint.read(path)
        settings, view_scales = vars(config), config.view_scales
    else:
        model = read(file)
        settings, view_scales = training_of(model), view_scales_of(model)
    form = {name: settings[name] for name in FORM if name in settings}
    return form | {"view_scales": view_scales}


def copy(network: MobileNetUNet, other: MobileNetUNet) -> None:
    """Give the network the weights and statistics of another; ValueError where it is not alike."""
    try:
        network.load_state_dict(other.state_dict())
    except RuntimeError as error:
        raise ValueError(f"the run to start from holds another network: {error}") from error


def load(network: MobileNetUNet, model: onnx.ModelProto, batches: Iterable[Tensor]) -> None:
    """Give the network the function of the model, in place.

    batches: N×1×H×W float32 uptake as in training, on the network's device; the norms take their
    statistics from them. Raises ValueError where the model holds another network.
    """
    weights = _weights(model)
    normed = list(normed_convolutions(network))
    try:
        with torch.no_grad():
            for name, conv, norm in normed:
                conv.weight.copy_(weights[f"{name}.weight"])
                norm.bias.copy_(weights[f"{name}.bias"])
            for name, parameter in network.context.named_parameters():
                parameter.copy_(weights[f"context.{name}"])
            network.head.weight.copy_(weights["head.weight"])
            network.head.bias.copy_(weights["head.bias"])
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"the model to start from holds another network: {error}") from error
    statistics = _statistics(network, [norm for _, _, norm in normed], batches)
    with torch.no_grad():
        for _, conv, norm in normed:
            mean, variance = statistics[norm]
            rms = conv.weight.square().mean((1, 2, 3)).sqrt().clamp_min(1e-8)
            factor = FILTER_RMS / rms
            conv.weight.mul_(factor[:, None, None, None])
            norm.running_mean.copy_(mean * factor)
            norm.running_var.copy_(variance * factor**2)
            norm.weight.copy_((norm.running_var + norm.eps).sqrt() / factor)
            norm.bias.add_(mean)


def _weights(model: onnx.ModelProto) -> dict[str, Tensor]:
    """The numbers of the file by their names in the state dict; 8-bit ones become float32 again."""
    arrays = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    for name in [name for name in arrays if name.endswith("_quantized")]:
        plain = name.removesuffix("_quantized")
        # onnxruntime has names like bias_quantized_scale for biases, weight_scale for filters.
        scale, zero = (
            arrays[f"{name if f'{name}_scale' in arrays else plain}_{of}"]
            for of in ("scale", "zero_point")
        )
        channels = (-1, *[1] * (arrays[name].ndim - 1))
        shifted = arrays[name].astype(np.float32) - zero.reshape(channels)
        arrays[plain] = shifted * scale.reshape(channels)
    return {
        # Files of version 0.1.0 call a bias weight_bias.
        name.rpartition("network.")[2].replace("weight_bias", "bias"): torch.tensor(array)
        for name, array in arrays.items()
    }


def _statistics(
    network: MobileNetUNet, norms: list[nn.BatchNorm2d], batches: Iterable[Tensor]
) -> dict[nn.BatchNorm2d, tuple[Tensor, Tensor]]:
    """Mean and variance of what each norm is given, while all norms only add their bias."""
    sums = {norm: [] for norm in norms}

    def record(norm: nn.BatchNorm2d, inputs: tuple[Tensor], _: Tensor) -> None:
        x = inputs[0].float()
        sums[norm].append(torch.stack([x.mean((0, 2, 3)), x.square().mean((0, 2, 3))]))

    for norm in norms:
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)
        nn.init.ones_(norm.weight)
    hooks = [norm.register_forward_hook(record) for norm in norms]
    network.eval()
    with torch.no_grad():
        for uptake in batches:
            network.half_resolution_logits(uptake)
    for hook in hooks:
        hook.remove()
    means = {norm: torch.stack(values).mean(0) for norm, values in sums.items()}
    return {norm: (mean, (square - mean**2).clamp_min(0)) for norm, (mean, square) in means.items()}
