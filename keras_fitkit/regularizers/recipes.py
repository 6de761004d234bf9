"""Published recipes: the numbers of a paper, where they stand, and what they became.

Each number was read in the paper or in its authors' code; what was not is not here.
"""

from __future__ import annotations

from typing import Any

_ADAMW = "decoupled and multiplied by the learning rate there as in Keras's AdamW"
_KERNELS = "here kernels alone decay, there every weight does"
_RANDAUGMENT = (
    "RandAugment with 2 operations of strength 9 of 10, MixUp with alpha .8 or CutMix "
    "with alpha 1 by turns, RandomErasing in every fourth image"
)

RECIPES: dict[str, dict[str, Any]] = {
    "max-norm": {
        "max_norm": 4.0,
        "source": "Srivastava et al. 2014, JMLR 15, appendix B: c = 4 on all layers",
        "conversion": "the norm of the weights into one unit; there beside dropout",
    },
    "label-smoothing": {
        "label_smoothing": 0.1,
        "source": "Szegedy et al. 2016, arXiv:1512.00567, section 7: epsilon = .1",
        "conversion": "Keras mixes with the uniform distribution as there",
    },
    "resnet": {
        "l2": 5e-5,
        "data": "crops of 224 from images whose shorter side is resized to a random "
        "one of 256 to 480, mirrored, changed colours",
        "source": "He et al. 2016, arXiv:1512.03385, section 3.4: weight decay .0001, "
        "no dropout",
        "conversion": "SGD's decay of 1e-4 adds 1e-4 w to the gradient, as 5e-5 w**2 "
        f"in the loss does; {_KERNELS}",
    },
    "vgg": {
        "l2": 2.5e-4,
        "dropout": 0.5,
        "data": "crops of 224 from rescaled images, mirrored, shifted colours",
        "source": "Simonyan and Zisserman 2015, arXiv:1409.1556, section 3.1: L2 "
        "multiplier 5e-4, dropout .5 after the first two dense layers",
        "conversion": "read as SGD's decay, which adds 5e-4 w to the gradient, as "
        f"2.5e-4 w**2 in the loss does; {_KERNELS}",
    },
    "vit-augreg": {
        "weight_decay": 0.1,
        "data": "RandAugment with 2 operations of strength 15 of 30 and MixUp with "
        "alpha .5, cropped and mirrored images",
        "source": "Steiner et al. 2022, arXiv:2106.10270, as in its authors' "
        "google-research/big_vision, configs/vit_i1k.py: B/16, medium2, no dropout",
        "conversion": "there 1e-4 a step beside a learning rate of 1e-3 that does not "
        "multiply it: 1e-4 / 1e-3 for AdamW; on kernels alone, as there",
    },
    "deit": {
        "stochastic_depth": 0.1,
        "weight_decay": 0.05,
        "label_smoothing": 0.1,
        "data": _RANDAUGMENT,
        "source": "Touvron et al. 2021, arXiv:2012.12877, as in its authors' "
        "facebookresearch/deit, main.py: defaults, dropout 0",
        "conversion": _ADAMW,
    },
    "convnext": {
        "stochastic_depth": 0.1,
        "weight_decay": 0.05,
        "label_smoothing": 0.1,
        "data": _RANDAUGMENT,
        "source": "Liu et al. 2022, arXiv:2201.03545, as in its authors' "
        "facebookresearch/ConvNeXt, TRAINING.md and main.py: ConvNeXt-T",
        "conversion": f"{_ADAMW}; stochastic depth .4 for S, .5 for B and L",
    },
    "bert-finetune": {
        "dropout": 0.1,
        "weight_decay": 0.01,
        "source": "Devlin et al. 2019, arXiv:1810.04805, A.2 and A.3; its authors' "
        "google-research/bert, optimization.py, recommends this decay for fine-tuning",
        "conversion": f"{_ADAMW}; not on biases and norms, as there",
    },
    "mlp-tabular": {
        "dropout": 0.15,
        "weight_decay": 0.02,
        "label_smoothing": 0.1,
        "source": "Holzmueller et al. 2024, arXiv:2407.04491, as in its authors' "
        "dholzmueller/pytabkit, default_params.py: RealMLP_TD_CLASS",
        "conversion": f"{_ADAMW}; there rate and decay fall to 0 over the second half "
        "of the run, and the net is another one; no label smoothing for regression",
    },
}
