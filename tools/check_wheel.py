"""Proves the archives in a folder: what is inside, and that the wheel imports.

The wheel is installed without its dependencies into an empty folder and imported from
another one, with the packages of the running Python around it.
"""

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

# The installed folder goes first on the path, before the editable installation that the
# running Python has.
IMPORT = """
import sys
sys.path.insert(0, sys.argv[1])
import keras_fitkit
print(keras_fitkit.__file__, keras_fitkit.__version__, sep="\\n")
"""


def main(dist: Path) -> None:
    """Checks the one wheel and the one sdist in `dist`."""
    (wheel,) = dist.glob("*.whl")
    (sdist,) = dist.glob("*.tar.gz")
    check_wheel_names(wheel)
    check_sdist_names(sdist)
    version = import_elsewhere(wheel)
    if f"-{version}-" not in wheel.name:
        sys.exit(f"{wheel.name} imports as version {version}.")
    print(f"{wheel.name} and {sdist.name} hold what they should; the wheel imports.")


def check_wheel_names(wheel: Path) -> None:
    """The package, its command and licence; nothing else of the repository."""
    names = zipfile.ZipFile(wheel).namelist()
    info = f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"
    tops = {name.split("/")[0] for name in names}
    if tops != {"keras_fitkit", "keras_fitkit_command", info}:
        sys.exit(f"{wheel.name} holds more or less than the package: {sorted(tops)}.")
    for needed in ("keras_fitkit/py.typed", f"{info}/licenses/LICENSE"):
        if needed not in names:
            sys.exit(f"{wheel.name} lacks {needed}.")


def check_sdist_names(sdist: Path) -> None:
    """What is needed to read, test and rebuild; nothing that was built or installed."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"pyproject.toml", "README.md", "LICENSE", "Makefile", "tools/make-env"}
    lost = {name for name in needed if name not in names}
    strange = {
        name
        for name in names
        if name.startswith((".venv", "site", "dist", "out")) or name.endswith(".pyc")
    }
    if lost or strange:
        sys.exit(f"{sdist.name} lacks {sorted(lost)}, holds {sorted(strange)[:5]}.")
    for folder in ("keras_fitkit/", "tests/"):
        if not any(name.startswith(folder) for name in names):
            sys.exit(f"{sdist.name} lacks {folder}.")


def import_elsewhere(wheel: Path) -> str:
    """Installs the wheel in a temporary folder; returns the version it imports as."""
    with tempfile.TemporaryDirectory() as folder:
        target, elsewhere = Path(folder, "installed"), Path(folder, "elsewhere")
        elsewhere.mkdir()
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--target", target, wheel], check=True)
        found = subprocess.run(
            [sys.executable, "-c", IMPORT, target],
            cwd=elsewhere,
            check=True,
            text=True,
            stdout=subprocess.PIPE,
        )
        origin, version = found.stdout.splitlines()[-2:]
        if not Path(origin).resolve().is_relative_to(target.resolve()):
            sys.exit(f"The import did not come from the wheel but from {origin}.")
        return version


if __name__ == "__main__":
    main(Path(sys.argv[1]))
