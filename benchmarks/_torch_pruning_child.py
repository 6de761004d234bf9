"""One net shrunk by torch-pruning, timed beside its original: a process of its own.

    python benchmarks/_torch_pruning_child.py NET ROUND_TO SPARSITY SIZE RUNS

Needs torch and torch-pruning, not Keras and not this package: shrink_speed.py starts it
with the interpreter of `--peer-python`. Prints a line of JSON: the multiplications
before and after, and the median ratio of CPU time of calls in turns, with an interval.
One thread, batch 1, eager calls in inference mode.
"""

import json
import random
import statistics
import sys
import time

import torch
import torch_pruning
from torch import nn


def _unit(given, made, size, stride=1, groups=1, act=None):
    parts = [
        nn.Conv2d(given, made, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(made),
    ]
    return nn.Sequential(*parts, act) if act else nn.Sequential(*parts)


class _Sum(nn.Module):
    """A branch and what goes around it, then an activation."""

    def __init__(self, branch, around, act):
        super().__init__()
        self.branch, self.around, self.act = branch, around, act

    def forward(self, x):
        return self.act(self.branch(x) + self.around(x))


def small_cnn():
    parts, given = [], 3
    for filters in (32, 64, 128):
        parts += [nn.Conv2d(given, filters, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        given = filters
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*parts, *pool, nn.Linear(given, 10))


def vgg16(size):
    parts, given = [], 3
    for filters, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            parts += [nn.Conv2d(given, filters, 3, padding=1), nn.ReLU()]
            given = filters
        parts.append(nn.MaxPool2d(2))
    parts += [nn.Flatten(), nn.Linear(given * (size // 32) ** 2, 4096), nn.ReLU()]
    return nn.Sequential(
        *parts, nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000)
    )


def resnet50():
    """Version 1, the stride in the first 1 x 1, as that of Keras."""
    parts = [_unit(3, 64, 7, 2, act=nn.ReLU()), nn.MaxPool2d(3, 2, 1)]
    given = 64
    for width, count, first in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(count):
            stride = first if block == 0 else 1
            branch = nn.Sequential(
                _unit(given, width, 1, stride, act=nn.ReLU()),
                _unit(width, width, 3, act=nn.ReLU()),
                _unit(width, 4 * width, 1),
            )
            around = nn.Identity() if block else _unit(given, 4 * width, 1, stride)
            parts.append(_Sum(branch, around, nn.ReLU()))
            given = 4 * width
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*parts, *pool, nn.Linear(given, 1000))


def mobilenet_v2():
    parts, given = [_unit(3, 32, 3, 2, act=nn.ReLU6())], 32
    rows = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2))
    rows += ((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, made, count, first in rows:
        for block in range(count):
            stride, wide = first if block == 0 else 1, given * expansion
            branch = [_unit(given, wide, 1, act=nn.ReLU6())] if expansion > 1 else []
            branch += [_unit(wide, wide, 3, stride, wide, nn.ReLU6())]
            branch += [_unit(wide, made, 1)]
            whole = nn.Sequential(*branch)
            alike = stride == 1 and given == made
            parts.append(_Sum(whole, nn.Identity(), nn.Identity()) if alike else whole)
            given = made
    parts += [_unit(given, 1280, 1, act=nn.ReLU6())]
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*parts, *pool, nn.Linear(1280, 1000))


def build(name, size):
    torch.manual_seed(0)
    nets = {
        "small CNN": small_cnn,
        "MobileNetV2": mobilenet_v2,
        "ResNet50": resnet50,
        "VGG16": lambda: vgg16(size),
    }
    return nets[name]().eval()


def macs(net, x):
    """Multiplications of convolutions and linear layers."""
    found, hooks = [], []

    def note(module, given, out):
        each = module.weight[0].numel()
        found.append(each * out[0].numel())

    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            hooks.append(module.register_forward_hook(note))
    with torch.inference_mode():
        net(x)
    for hook in hooks:
        hook.remove()
    return sum(found)


def shrunk(net, x, sparsity, round_to):
    """The L2 norm in groups, the same share of each: the package's usual way."""
    last = [one for one in net.modules() if isinstance(one, nn.Linear)][-1]
    pruner = torch_pruning.pruner.MagnitudePruner(
        net,
        x,
        importance=torch_pruning.importance.MagnitudeImportance(p=2),
        pruning_ratio=sparsity,
        round_to=round_to if round_to > 1 else None,
        ignored_layers=[last],
    )
    pruner.step()
    return net


def ratios(net, other, x, runs):
    """CPU time of the net over that of the other, of calls in turns."""
    rng, found = random.Random(0), []
    with torch.inference_mode():
        for one in (net, other) * 3:
            one(x)
        for _ in range(runs):
            spent = {}
            for place in rng.sample((0, 1), 2):
                begin = time.process_time()
                (net, other)[place](x)
                spent[place] = time.process_time() - begin
            found.append(spent[0] / spent[1])
    return sorted(found)


def main():
    name, rounding, sparsity, size, runs = sys.argv[1:]
    torch.set_num_threads(1)
    x = torch.randn(1, 3, int(size), int(size))
    net = build(name, int(size))
    other = net
    if rounding != "itself":
        other = shrunk(build(name, int(size)), x, float(sparsity), int(rounding))
    found = ratios(net, other, x, int(runs))
    middle, off = len(found) // 2, int(0.98 * len(found) ** 0.5)
    interval = [found[max(0, middle - off)], found[min(len(found) - 1, middle + off)]]
    speed = [statistics.median(found), *interval]
    version = torch_pruning.__version__
    told = {"macs": [macs(net, x), macs(other, x)], "speed": speed, "version": version}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
