"""Batches of pods: drawn from the public GPU trace, or made up here by the same kind of recipe.

A batch is an array [pods, 4]: milli-CPU, MiB, pods (1), GPUs. Trace files are read from a path and
are not part of the repository (their licence grants use, not redistribution); the synthetic mixes
are this module's own and need nothing.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Pods = NDArray[np.float64]

TRACES = ("default", "multigpu50", "inference", "training", "gpu-only")
SYNTHETIC = ("serving", "finetuning", "services", "everything")


def from_trace(folder: Path, kind: str, count: int, seed: int = 1) -> Pods:
    """Return *count* pods drawn with replacement from the trace lists in *folder*.

    `inference`: one-GPU pods; `training`: 1, 2, 4, 8 GPUs at 40, 20, 20, 20 %; `gpu-only`:
    default's pods that ask for GPUs.
    """
    dice = np.random.default_rng(seed)
    if kind == "training":
        rows = _rows(folder, "multigpu50")
        gpus = dice.choice([1, 2, 4, 8], size=count, p=[0.4, 0.2, 0.2, 0.2])
        drawn = np.empty((count, 4))
        for wanted in (1, 2, 4, 8):
            which, pool = gpus == wanted, rows[rows[:, 3] == wanted]
            drawn[which] = pool[dice.integers(0, len(pool), int(which.sum()))]
        return drawn
    rows = _rows(folder, "multigpu50" if kind == "multigpu50" else "default")
    if kind == "inference":
        rows = rows[rows[:, 3] == 1]
    elif kind == "gpu-only":
        rows = rows[rows[:, 3] > 0]
    return rows[dice.integers(0, len(rows), count)]


def _rows(folder: Path, name: str) -> Pods:
    """Return every pod of one trace list; a share of a GPU asks for a whole one."""
    with (folder / f"openb_pod_list_{name}.csv").open(newline="") as lines:
        return np.array(
            [
                (float(row["cpu_milli"]), float(row["memory_mib"]), 1.0, float(row["num_gpu"]))
                for row in csv.DictReader(lines)
            ]
        )


# Shapes: milli-CPU, GiB, GPUs, weight. Model servers, from an encoder to a large language model.
SERVING = (
    (2000, 8, 1, 20), (4000, 16, 1, 30), (4000, 24, 1, 12), (8000, 32, 1, 18), (3000, 12, 1, 10),
    (8000, 60, 1, 6), (12000, 48, 1, 4), (16000, 100, 1, 2), (1000, 4, 1, 12), (6000, 20, 1, 9),
)  # fmt: skip
FINETUNING = (
    (7000, 28, 1, 25), (12000, 90, 1, 10), (14000, 100, 2, 15), (24000, 180, 2, 5),
    (30000, 220, 4, 12), (46000, 360, 4, 6), (90000, 700, 8, 12), (180000, 1100, 8, 4),
)  # fmt: skip
SERVICES = (
    (100, 0.25, 0, 20), (250, 0.5, 0, 25), (500, 1, 0, 20), (1000, 2, 0, 14), (1000, 6, 0, 8),
    (2000, 4, 0, 8), (4000, 8, 0, 5), (4000, 30, 0, 4), (8000, 16, 0, 2), (16000, 120, 0, 1),
    (200, 2, 0, 12), (3000, 3, 0, 5),
)  # fmt: skip
MIXES = {
    "serving": SERVING,
    "finetuning": FINETUNING,
    "services": SERVICES,
    "everything": SERVING + FINETUNING + SERVICES,
}


def synthetic(kind: str, count: int, shapes: int = 0, seed: int = 1) -> Pods:
    """Return *count* pods of a made-up mix; with *shapes*, jittered to that many shapes."""
    dice = np.random.default_rng(seed)
    table = np.array(MIXES[kind], dtype=np.float64)
    weights = table[:, 3] / table[:, 3].sum()
    if not shapes:
        drawn = table[dice.choice(len(table), size=count, p=weights)]
    else:
        base = table[dice.choice(len(table), size=shapes, p=weights)]
        base = base * np.column_stack(
            [
                dice.uniform(0.75, 1.25, shapes),
                dice.uniform(0.75, 1.25, shapes),
                np.ones((shapes, 2)),
            ]
        )
        drawn = base[dice.integers(0, shapes, count)]
    return np.column_stack(
        [np.ceil(drawn[:, 0]), np.ceil(drawn[:, 1] * 1024), np.ones(count), drawn[:, 2]]
    )


def spread(count: int, groups: int = 24, seed: int = 1) -> tuple[Pods, NDArray[np.float64]]:
    """Return *count* services of which four in ten spread over nodes, and how many a node may
    hold.

    Every group is one more resource, of which a node has one (anti-affinity) or up to three
    (hostname spread with that maxSkew); each of its pods takes one.
    """
    dice = np.random.default_rng(seed)
    pods = synthetic("services", count, seed=seed)
    group = np.where(dice.random(count) < 0.4, dice.integers(0, groups, count), -1)
    units = (group[:, None] == np.arange(groups)).astype(np.float64)
    return np.hstack([pods, units]), np.where(
        np.arange(groups) % 2, dice.integers(1, 4, groups), 1.0
    )


def grouped(pods: Pods) -> tuple[Pods, NDArray[np.int64]]:
    """Return the distinct shapes of *pods* and how many pods have each."""
    keys, counts = np.unique(pods, axis=0, return_counts=True)
    return keys, counts
