"""Kills a training again and again, and compares what comes out with a whole one.

    python tests/reliability/soak.py --kills 20 --seed 0 --json out/soak.json

Each round starts `soak_child.py` in the same folder and lets it kill itself at a random
moment of those that a whole run has, half of them among the first third, so that the
run gets on. When the kills are used up the run is left to end. Exit status 1 if a byte
differs.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

CHILD = Path(__file__).with_name("soak_child.py")
ROOT = Path(__file__).parents[2]


def run(folder, result, kill=0):
    """The exit status of a child."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, str(CHILD), str(folder), str(result), str(kill)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(done.stderr[-3000:])
    return done.returncode


def load(result):
    """What a child has saved."""
    with np.load(result) as file:
        return {name: file[name] for name in file.files}


def differences(whole, again):
    """Names of what is not the same to the byte."""
    names = [name for name in whole if name not in ("moments", "said")]
    found = [
        f"variable {name}"
        for name in names
        if name not in again or whole[name].tobytes() != again[name].tobytes()
    ]
    one, other = json.loads(str(whole["said"])), json.loads(str(again["said"]))
    found += [name for name in one if one[name] != other[name]]
    return found


def soak(kills, seed, say=lambda text: None):
    """The table: kills, restarts, differences."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run(folder / "whole", folder / "whole.npz")
        whole = load(folder / "whole.npz")
        moments = int(whole["moments"])
        done, at = 0, []
        while done < kills:
            last = moments if rng.random() < 0.5 else moments // 3
            kill = int(rng.integers(1, last + 1))
            status = run(folder / "again", folder / "again.npz", kill)
            if status == 0:  # there were not so many moments left: begin once more
                found = differences(whole, load(folder / "again.npz"))
                say(f"ended after {done} kills, differences: {found or 0}")
                if found:
                    return row(kills, done, at, moments, found)
                _empty(folder / "again")
                continue
            done += 1
            at.append(kill)
            files = sorted(path.name for path in (folder / "again").iterdir())
            say(f"kill {done} at moment {kill} of {moments}: {', '.join(files)}")
        run(folder / "again", folder / "again.npz")
        found = differences(whole, load(folder / "again.npz"))
    return row(kills, done, at, moments, found)


def _empty(folder):
    for path in folder.iterdir():
        path.unlink()


def row(kills, done, at, moments, found):
    """One line of the table."""
    return {
        "backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
        "kills": done,
        "restarts": done,
        "moments": moments,
        "killed_at": at,
        "differences": len(found),
        "different": found,
        "asked_for": kills,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    def say(text):
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    found = soak(options.kills, options.seed, say)
    say(json.dumps(found))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1))
    return 1 if found["differences"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
