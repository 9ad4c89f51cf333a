"""The control plane's programs: found where envtest looks, and named where they are missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.real import binaries

NEW, OLD = "etcd Version: 3.6.1", "etcd Version: 3.5.1"


def put(folder: Path, program: str, says: str = "") -> Path:
    """Put a program that says one line into *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / program
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def fill(folder: Path, etcd: str = NEW) -> None:
    """Put all four into *folder*."""
    for program in binaries.PROGRAMS:
        put(folder, program, etcd if program == "etcd" else "")


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let there be no program, no Go and no cache."""
    for program in binaries.PROGRAMS:
        monkeypatch.delenv(f"TEST_ASSET_{program.upper().replace('-', '_')}", raising=False)
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv(binaries.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))


def test_what_is_missing_is_named_with_what_would_bring_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Neither found nor to be built: a status of its own, and every name."""
    for arguments in ([], ["build"]):
        assert binaries.main(arguments) == binaries.NOT_THERE
        said = capsys.readouterr().err
        assert all(program in said for program in binaries.PROGRAMS)
        assert "Go >= 1.26 on PATH: there is none" in said


def test_variables_come_before_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of its own, then KUBEBUILDER_ASSETS, then PATH, then the cache."""
    fill(binaries.cache())
    assert binaries.found()["etcd"] == binaries.cache() / "etcd"
    fill(tmp_path / "path")
    assert binaries.found()["etcd"] == tmp_path / "path/etcd"
    fill(tmp_path / "assets")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "assets"))
    assert binaries.found()["etcd"] == tmp_path / "assets/etcd"
    mine = put(tmp_path, "my-etcd", NEW)
    monkeypatch.setenv("TEST_ASSET_ETCD", str(mine))
    assert binaries.found()["etcd"] == mine
    assert binaries.found()["kube-scheduler"] == tmp_path / "assets/kube-scheduler"


def test_a_variable_that_points_at_nothing_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is built instead of what somebody asked for by name, and nothing is left out."""
    fill(binaries.cache())
    monkeypatch.setenv("TEST_ASSET_KUBE_APISERVER", "/nowhere/kube-apiserver")
    assert binaries.main(["build"]) == binaries.main([]) == 1
    assert "TEST_ASSET_KUBE_APISERVER is /nowhere/kube-apiserver" in capsys.readouterr().err


def test_an_old_etcd_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """One without progress notifications would end every watch after seconds."""
    fill(binaries.cache(), etcd=OLD)
    assert binaries.main([]) == binaries.NOT_THERE
    assert "etcd is older than 3.5.13" in capsys.readouterr().err
