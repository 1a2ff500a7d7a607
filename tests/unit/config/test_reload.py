from __future__ import annotations

from pathlib import Path

from citadel import config

BASE = {"trust_domain": "example.org", "data_dir": "/d"}


def test_changes_are_sorted_by_what_a_reload_can_do(tmp_path: Path) -> None:
    old = config.parse(BASE | {"log": {"level": "info"}, "http": {"address": ""}}, base=tmp_path)
    new = config.parse(BASE | {"log": {"level": "debug"}, "svid": {"default_ttl": "30m"}}, base=tmp_path)
    changes = config.reloadable_changes(old, new)
    assert [str(change) for change in changes.reloadable] == ["svid.default_ttl: 1h -> 30m", "log.level: info -> debug"]
    assert [str(change) for change in changes.needs_restart] == ["http.address: (empty) -> 127.0.0.1:8476"]


def test_the_same_settings_are_no_change(tmp_path: Path) -> None:
    settings = config.parse(BASE, base=tmp_path)
    assert config.reloadable_changes(settings, config.parse(BASE, base=tmp_path)) == config.Changes((), ())


def test_a_changed_secret_is_noticed_and_not_shown(tmp_path: Path) -> None:
    old = config.parse(BASE | {"store": {"url": "postgresql://a@b/c"}}, base=tmp_path)
    new = config.parse(BASE | {"store": {"url": "postgresql://hidden@b/c"}}, base=tmp_path)
    (change,) = config.reloadable_changes(old, new).needs_restart
    assert change.field == "store.url"
    assert "hidden" not in str(change)


def test_what_is_in_force_after_a_reload_has_only_the_reloadable_changes(tmp_path: Path) -> None:
    old = config.parse(BASE, base=tmp_path)
    new = config.parse(BASE | {"log": {"level": "debug", "format": "json"}, "ca": {"ttl": "8d"}}, base=tmp_path)
    taken = config.with_reloadable(old, new)
    assert (taken.log.level, taken.log.format, taken.ca.ttl) == ("debug", "auto", old.ca.ttl)
    assert config.reloadable_changes(taken, new).reloadable == ()
    assert [change.field for change in config.reloadable_changes(taken, new).needs_restart] == ["ca.ttl", "log.format"]
