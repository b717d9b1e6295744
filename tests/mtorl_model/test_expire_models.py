"""The command that deletes expired versions, for every method that has some."""

import sys

import pytest

from lakehouse.lake import Lake
from mtorl_model import expire_models
from mtorl_model.champion.registry import Registry


@pytest.mark.parametrize(("flag", "dry_run"), [((), False), (("--dry-run",), True)])
def test_every_method_with_a_decision_is_expired(tmp_path, monkeypatch, capsys, flag, dry_run):
    expired = []

    def delete_expired(registry: Registry, *, today: str, dry_run: bool) -> list[str]:
        expired.append((registry.model, len(today), dry_run))
        return ["a line"]

    monkeypatch.setattr(expire_models, "delete_expired", delete_expired)
    monkeypatch.setattr(Registry, "decided", lambda self: self.method in ("mtorl", "rmtl"))
    monkeypatch.setattr(
        sys, "argv", ["expire_models", "--dataset", "criteo", "--lake", str(Lake(tmp_path).root), *flag]
    )
    expire_models.main()
    assert sorted(expired) == [("mtorl_criteo", 10, dry_run), ("rmtl_criteo", 10, dry_run)]
    assert capsys.readouterr().out.splitlines() == ["a line", "a line"]
