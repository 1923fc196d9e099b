"""Compare the data path with that of nilearn on a full-size subject.

    python benchmarks/data_path.py DIRECTORY

Writes a subject of 40 x 64 x 64 voxels and 1452 volumes (int16, 300 MB compressed) to DIRECTORY, unless it
is there, and measures every stage in a separate process: wall time without imports, and peak memory. The
image is read once before, so that every stage finds it in the page cache of the system.

The cold read overlaps decompression, digest and sum, which requires two free cores: on a busy machine,
compare the processor times.
"""

# The standard library only: a process starts with the peak memory of its parent.
import argparse
import gzip
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

SHAPE = (40, 64, 64)
N_VOLUMES = 1452
N_SELECTED = 216  # face and cat, as in the tutorial
N_ROI = 464  # the VT mask of subject 2
N_WARM = 10


def make_subject(directory: Path) -> None:
    """Write bold.nii.gz, double.nii.gz with all volumes twice, and roi.nii.gz."""
    import nibabel as nib
    import numpy as np

    rng = np.random.default_rng(2001)
    affine = np.diag([3.5, 3.75, 3.75, 1])
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in axes))
    brain = radius < 0.84
    anatomy = np.where(brain, 1200 - 500 * radius + rng.normal(scale=80, size=SHAPE), 0)

    # Gzip files can be concatenated, so that the volumes are compressed once for both images.
    volumes = directory / "volumes.gz"
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    with volumes.open("wb") as file:
        for _ in range(N_VOLUMES):
            # Rician, as magnitude images are: Gaussian noise in the brain, Rayleigh noise around it.
            real, imaginary = rng.normal(scale=35, size=(2, *SHAPE)).astype(np.float32)
            volume = np.hypot(anatomy + real, imaginary).astype("<i2")
            file.write(packer.compress(volume.tobytes(order="F")))
        file.write(packer.flush())
    for name, repeats in (("double.nii.gz", 2), ("bold.nii.gz", 1)):
        header = nib.Nifti1Image(np.broadcast_to(np.int16(0), (*SHAPE, repeats * N_VOLUMES)), affine).header
        header.set_data_offset(352)
        with (directory / f"{name}.part").open("wb") as file:
            file.write(gzip.compress(header.binaryblock + bytes(4)))
            for _ in range(repeats):
                with volumes.open("rb") as source:
                    shutil.copyfileobj(source, file, 1 << 20)
        (directory / f"{name}.part").rename(directory / name)
    volumes.unlink()

    roi = np.zeros(SHAPE, dtype=np.uint8)
    roi.flat[rng.choice(np.flatnonzero(brain), N_ROI, replace=False)] = 1
    nib.save(nib.Nifti1Image(roi, affine), directory / "roi.nii.gz")


def start_clock() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def stop_clock(clock: tuple[float, float]) -> dict:
    wall, processor = clock
    return {"seconds": time.perf_counter() - wall, "processor": time.process_time() - processor}


def measure_nilearn(bold: Path, roi: Path, cache: Path) -> dict:
    """Select volumes, mask and z-score as the tutorial and nilearn's Decoder do."""
    import numpy as np
    from nilearn.image import index_img
    from nilearn.maskers import NiftiMasker

    clock = start_clock()
    selected = np.arange(N_VOLUMES) < N_SELECTED
    X = NiftiMasker(roi, standardize="zscore_sample").fit_transform(index_img(bold, selected))
    return {**stop_clock(clock), "X": X}


def measure_harness(bold: Path, roi: Path, cache: Path) -> dict:
    """Do the same with the cache."""
    from harness.datasets.images import read_mask
    from harness.samples.cache import SampleCache

    clock = start_clock()
    mask, affine = read_mask(roi)
    X = SampleCache(cache).fetch(bold, mask, affine).data[:N_SELECTED]
    X = (X - X.mean(axis=0)) / X.std(axis=0, ddof=1)
    return {**stop_clock(clock), "X": X}


def measure_imports(bold: Path, roi: Path, cache: Path) -> dict:
    """Measure the memory after the imports."""
    import harness.samples.cache
    import harness.samples.volumes

    modules = [harness.samples.cache.__name__, harness.samples.volumes.__name__]
    return {**stop_clock(start_clock()), "modules": modules}


STAGES = {"nilearn": measure_nilearn, "harness": measure_harness, "imports": measure_imports}


def run_stage(stage: str, bold: Path, roi: Path, cache: Path) -> dict:
    """Run one stage in a separate process."""
    command = [sys.executable, __file__, "--stage", stage, *map(str, (bold, roi, cache))]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def report_stage(stage: str, bold: Path, roi: Path, cache: Path) -> None:
    """Print the figures of a stage as JSON, and save its samples next to the cache."""
    found = STAGES[stage](bold, roi, cache)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    megabytes = peak / (1e6 if sys.platform == "darwin" else 1e3)  # bytes there, kilobytes on Linux
    if "X" in found:
        import numpy as np

        np.save(cache.parent / f"{stage}.npy", found["X"])
    figures = {"seconds": found["seconds"], "processor": found["processor"], "megabytes": megabytes}
    print(json.dumps(figures))


def measure(directory: Path, repeats: int) -> bool:
    """Print every figure with its target, and return whether all targets were met."""
    directory.mkdir(parents=True, exist_ok=True)
    roi = directory / "roi.nii.gz"
    if not roi.exists():
        print("writing the subject (some minutes) ...", flush=True)
        subprocess.run([sys.executable, __file__, "--make", str(directory)], check=True)
    bold, double = directory / "bold.nii.gz", directory / "double.nii.gz"
    for path in (bold, double):
        print(f"{path}: {path.stat().st_size / 1e6:.0f} MB")
        with path.open("rb") as file:
            while file.read(1 << 20):
                pass

    runs: dict[str, list[dict]] = {name: [] for name in ("nilearn", "cold", "warm", "double")}
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        cache = Path(scratch) / "cache"
        imports = run_stage("imports", bold, roi, cache)
        for _ in range(repeats):  # alternating, so that other load affects both
            shutil.rmtree(cache, ignore_errors=True)
            runs["cold"].append(run_stage("harness", bold, roi, cache))
            runs["nilearn"].append(run_stage("nilearn", bold, roi, cache))
        runs["warm"] = [run_stage("harness", bold, roi, cache) for _ in range(N_WARM)]
        runs["double"].append(run_stage("harness", double, roi, cache))
        difference = compare_samples(Path(scratch))

    # Other load only adds time, so that the minimum is the best estimate.
    seconds = {name: min(run["seconds"] for run in of) for name, of in runs.items()}
    peak = {name: max(run["megabytes"] for run in of) for name, of in runs.items()}
    speed_up = seconds["nilearn"] / seconds["cold"]
    slowest_warm = 1e3 * max(run["seconds"] for run in runs["warm"])
    growth = peak["double"] - peak["cold"]
    samples = 2 * N_VOLUMES * N_ROI * 4 / 1e6
    rows = [
        ("cold, times faster than nilearn", f"{speed_up:.1f}", "at least 4", speed_up >= 4),
        ("cold, peak memory (MB)", f"{peak['cold']:.0f}", "at most 300", peak["cold"] <= 300),
        ("warm, slowest of all (ms)", f"{slowest_warm:.1f}", "at most 50", slowest_warm <= 50),
        (
            "twice the volumes, more memory (MB)",
            f"{growth:.0f}",
            f"at most the samples, {samples:.0f}",
            growth <= samples,
        ),
        ("largest difference from nilearn (SD)", f"{difference:.1e}", "at most 1e-05", difference <= 1e-5),
    ]
    for name, of in runs.items():
        each = " ".join(f"{run['seconds']:.3f}" for run in of)
        processor = min(run["processor"] for run in of)
        print(f"{name:8} peak {peak[name]:5.0f} MB, processor {processor:6.3f} s, wall {each} s")
    print(f"imports  peak {imports['megabytes']:5.0f} MB")
    for name, value, target, met in rows:
        print(f"{name:40}{value:>10}   {target:28}{'met' if met else 'MISSED'}")
    return all(met for *_, met in rows)


def compare_samples(directory: Path) -> float:
    import numpy as np

    return float(np.abs(np.load(directory / "harness.npy") - np.load(directory / "nilearn.npy")).max())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path)
    parser.add_argument("--repeats", type=int, default=5, help="cold reads of each; the fastest counts")
    parser.add_argument("--stage", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        stage, *paths = arguments.stage
        report_stage(stage, *map(Path, paths))
        return 0
    if arguments.make:
        make_subject(arguments.make)
        return 0
    if arguments.directory is None:
        parser.error("expected a DIRECTORY for the subject (0.9 GB)")
    return 0 if measure(arguments.directory, arguments.repeats) else 1


if __name__ == "__main__":
    sys.exit(main())
