"""The training recipes of the real runs.

Some overfit, some do not, some do neither well. Names say what was meant; the labels
come from `_real_runs`, which looks at the curves.
"""

from __future__ import annotations

import dataclasses
import zlib


@dataclasses.dataclass(frozen=True)
class Configuration:
    """One training recipe.

    `rows` and `validation_rows` are the user's; the rest of the data is held out, but
    for at most `MOST_HELD_OUT` rows. `label_noise` is the fraction of labels drawn
    anew, in the training rows and, unless `clean_validation`, in all others
    (regression: noise of that many sds is added to the target).
    """

    name: str
    data: str
    rows: int
    hidden: tuple[int, ...]
    validation_rows: int = 80
    dropout: float = 0.0
    l2: float = 0.0
    input_noise: float = 0.0
    label_noise: float = 0.0
    clean_validation: bool = False
    learning_rate: float = 1e-3
    optimizer: str = "adam"
    batch_size: int = 32

    @property
    def key(self) -> str:
        """Name in the cache; another recipe under the same name gets another key."""
        return f"{self.name}#{zlib.crc32(repr(self).encode()):08x}"


CONFIGURATIONS = (
    # Wide nets on few rows or noisy labels.
    Configuration("digits-wide-60", "digits", 60, (256, 256)),
    Configuration("digits-wide-noise20", "digits", 300, (256, 256), label_noise=0.2),
    Configuration("digits-wide-noise40", "digits", 500, (256,), label_noise=0.4),
    Configuration(
        "digits-fast-noise20",
        "digits",
        300,
        (128,),
        label_noise=0.2,
        learning_rate=5e-3,
    ),
    Configuration("cancer-wide-60", "cancer", 60, (128, 128)),
    Configuration("cancer-wide-noise15", "cancer", 150, (128, 128), label_noise=0.15),
    Configuration(
        "cancer-fast-150", "cancer", 150, (256, 256), 200, learning_rate=3e-3
    ),
    Configuration("diabetes-wide-100", "diabetes", 100, (128, 128)),
    Configuration("diabetes-wide-200", "diabetes", 200, (128, 128)),
    Configuration("diabetes-mid-150", "diabetes", 150, (32,), learning_rate=1e-2),
    Configuration(
        "wine-wide-noise30", "wine", 60, (128,), validation_rows=40, label_noise=0.3
    ),
    Configuration("moons-wide-40", "moons", 40, (256, 256), learning_rate=5e-3),
    Configuration("moons-wide-noise30", "moons", 200, (256, 256), label_noise=0.3),
    Configuration("friedman-wide-noise", "friedman", 100, (128, 128), label_noise=1.0),
    # Regularized, small, or with rows enough.
    Configuration(
        "digits-dropout-800", "digits", 800, (128,), validation_rows=200, dropout=0.5
    ),
    Configuration("digits-l2-300", "digits", 300, (128,), l2=3e-3),
    Configuration("cancer-dropout-200", "cancer", 200, (32,), dropout=0.5),
    Configuration("diabetes-dropout-200", "diabetes", 200, (32,), dropout=0.6),
    Configuration("diabetes-l2-200", "diabetes", 200, (16,), l2=3e-2),
    Configuration("wine-small-60", "wine", 60, (16,), validation_rows=40),
    Configuration("moons-small-400", "moons", 400, (16,)),
    Configuration("moons-input-noise", "moons", 400, (64,), input_noise=0.3),
    Configuration("friedman-small-500", "friedman", 500, (32,)),
    Configuration("friedman-dropout-500", "friedman", 500, (64,), dropout=0.3),
    # Long at their plateau, with noisy steps or a small validation set.
    Configuration(
        "digits-noisy-800", "digits", 800, (32,), dropout=0.4, learning_rate=1e-2
    ),
    Configuration(
        "digits-noisy-linear", "digits", 600, (), 60, l2=3e-3, learning_rate=3e-2
    ),
    Configuration(
        "cancer-noisy-l2", "cancer", 200, (16,), 60, l2=1e-2, learning_rate=3e-2
    ),
    Configuration(
        "diabetes-noisy-linear", "diabetes", 200, (), batch_size=8, learning_rate=3e-2
    ),
    Configuration("diabetes-plateau", "diabetes", 250, (2,), 60, learning_rate=2e-2),
    Configuration(
        "wine-noisy-l2", "wine", 80, (16,), 40, l2=1e-2, dropout=0.3, learning_rate=1e-2
    ),
    Configuration(
        "moons-noisy", "moons", 600, (8,), 60, batch_size=16, learning_rate=1e-2
    ),
    Configuration(
        "friedman-noisy", "friedman", 800, (8,), batch_size=16, learning_rate=1e-2
    ),
    # Too slow, too weak, too fast, or a validation set that is easier.
    Configuration("digits-slow-300", "digits", 300, (32,), learning_rate=1e-4),
    Configuration("friedman-linear-300", "friedman", 300, ()),
    Configuration("moons-slow-400", "moons", 400, (16,), learning_rate=2e-4),
    Configuration("digits-underfit-400", "digits", 400, (2,)),
    Configuration(
        "digits-hot-300", "digits", 300, (64,), optimizer="sgd", learning_rate=1.5
    ),
    Configuration("friedman-hot-300", "friedman", 300, (64,), learning_rate=0.3),
    Configuration("diabetes-hot-200", "diabetes", 200, (), learning_rate=1.0),
    Configuration(
        "digits-easier", "digits", 600, (16,), label_noise=0.3, clean_validation=True
    ),
    Configuration(
        "cancer-easier", "cancer", 200, (8,), label_noise=0.2, clean_validation=True
    ),
)
