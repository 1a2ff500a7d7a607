from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import get_args

import pytest

from citadel import config
from citadel.ca.keys import KeyType
from citadel.config.values import KeyTypeName
from citadel.errors import BadFile, CitadelError, NotFound, PermissionDenied, UnsafePermissions
from citadel.spiffe import TrustDomain

SMALLEST = 'trust_domain = "example.org"\ndata_dir = "data"\n'


def written(folder: Path, text: str) -> Path:
    path = folder / "citadel.toml"
    path.write_text(text)
    return path


def mistakes(path: Path | None, env: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(BadFile) as caught:
        config.load(path, env or {})
    return [str(mistake) for mistake in caught.value.mistakes]


def test_two_lines_are_a_configuration_and_the_rest_has_defaults(tmp_path: Path) -> None:
    settings = config.load(written(tmp_path, SMALLEST), {})
    assert settings.trust_domain.name == "example.org"
    assert settings.data_dir == tmp_path / "data"
    assert settings.sockets.admin.path == tmp_path / "data/run/admin.sock"
    assert settings.keys.kek == config.SecretSource("file", str(tmp_path / "data/keys/kek"))
    assert settings.svid.default_ttl == timedelta(hours=1)
    assert settings.sockets.admin.mode == 0o660
    assert settings.http.address == config.ListenAddress("127.0.0.1", 8476)
    assert config.database_url(settings, {}).get_secret_value() == f"sqlite:///{tmp_path}/data/db/citadel.db"


def test_a_variable_wins_over_the_file_and_fills_its_neighbours_from_it(tmp_path: Path) -> None:
    path = written(tmp_path, SMALLEST + '[svid]\ndefault_ttl = "30m"\nmax_ttl = "2h"\n')
    settings = config.load(path, {"CITADEL_SVID__MAX_TTL": "90m", "CITADEL_SOCKETS__ADMIN__ALLOW_UIDS": "1000, root"})
    assert settings.svid.default_ttl == timedelta(minutes=30)
    assert settings.svid.max_ttl == timedelta(minutes=90)
    assert settings.sockets.admin.allow_uids == (0, 1000)


def test_variables_alone_are_enough(tmp_path: Path) -> None:
    settings = config.load(None, {"CITADEL_TRUST_DOMAIN": "example.org", "CITADEL_DATA_DIR": str(tmp_path)})
    assert settings.data_dir == tmp_path


def test_each_value_knows_where_it_comes_from(tmp_path: Path) -> None:
    path = written(tmp_path, SMALLEST + '[log]\nlevel = "debug"\n')
    origins = config.load_with_origins(path, {"CITADEL_HTTP__ADDRESS": ""}).origins()
    assert origins["log", "level"] == f"{path}:4"
    assert origins["http", "address"] == "CITADEL_HTTP__ADDRESS"
    assert origins["log", "format"] == "default"


def test_every_mistake_of_file_and_environment_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """\
trust_domain = "Example"
bogus = 1
[svid]
default_ttl = "3"
max_tttl = "3h"
min_ttl = "2h"
max_ttl = "1h"
[sockets]
admin = 3
[sockets.workload]
max_connections = "x"
mode = "9"
[log]
level = "loud"
[attestors.unix]
discover_path = "perhaps"
max_hash_size = "big"
[store]
pool_size = 0
""",
    )
    env = {"CITADEL_STORE_URL": "x", "CITADEL_HTTP__ADDRESS": "nope", "CITADEL_APPLY__SET": "a b"}
    assert mistakes(path, env) == [
        f"{path}: data_dir: it must be set, here or by CITADEL_DATA_DIR",
        f"{path}:1: trust_domain: 'Example' is not a trust domain: 'E' is not allowed in a trust domain, only "
        "lower-case letters, digits, '.', '-' and '_'",
        f"{path}:2: bogus: there is no such setting",
        f"{path}:4: svid.default_ttl: '3' has no unit; write 3s for seconds",
        f"{path}:5: svid.max_tttl: there is no such setting; did you mean svid.max_ttl?",
        f"{path}:6: svid.min_ttl: svid.min_ttl (2h) is longer than svid.max_ttl (1h)",
        f"{path}:9: sockets.admin: it is a table: write [sockets.admin]",
        f"{path}:11: sockets.workload.max_connections: it must be a whole number, not 'x'",
        f"{path}:12: sockets.workload.mode: '9' is not a file mode; write it in octal and quotes, as in \"0660\"",
        f"{path}:14: log.level: it must be 'debug', 'info', 'warning' or 'error', not 'loud'",
        f"{path}:16: attestors.unix.discover_path: it must be true or false, not 'perhaps'",
        f"{path}:17: attestors.unix.max_hash_size: 'big' is not a size; write it as 64MiB",
        f"{path}:19: store.pool_size: it must be greater than or equal to 1",
        "CITADEL_APPLY__SET: 'a b' is not a name (1 to 63 letters, digits, '.', '_', '-')",
        "CITADEL_HTTP__ADDRESS: 'nope' is not an address and port, such as 127.0.0.1:8080 or [::1]:8080",
        "CITADEL_STORE_URL: there is no such setting; did you mean CITADEL_STORE__URL?",
    ]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ('[svid]\nmax_ttl = "5d"', "svid.max_ttl (5d) is more than half of ca.ttl (7d)"),
        ('[ca]\nttl = "20h"', "svid.max_ttl (1d) is more than half of ca.ttl (20h)"),
        ('[ca]\nttl = "9y"', "ca.ttl (9y) is more than half of root.ttl (10y)"),
        ('[svid]\nbackdate = "2h"', "2h is more than 1h"),
        ("[authorization.tcp]\nworkers = 2", "workers serve authorization.tcp.address, and it is empty"),
        (
            '[authorization.tcp]\nquota_connections_per_address = 9\naddress = "127.0.0.1:1"\nworkers = 2',
            "workers cannot keep to it: an Envoy does not count the connections of an address",
        ),
        (
            '[authorization.tcp]\nmax_connections = 8\naddress = "127.0.0.1:1"\nworkers = 9',
            "it is divided among the workers, and 8 is fewer than these, 9",
        ),
        ('[svid]\nmin_ttl = "0"', "at least 100ms"),
        ('[jobs]\nprune = "0s"', "at least 1s"),
        ('[sockets.workload]\npath = "DATA_DIR/run/admin.sock"', "is given to both sockets"),
        ('[sockets.admin]\nmode = "0666"', "lets everybody on the machine use the admin socket"),
        (f'[sockets.admin]\npath = "/{"x" * 110}"', "the kernel takes at most 107"),
        ('[root]\nkind = "cacerts"', "root.cacerts_dir must be set, since root.kind is cacerts"),
        (
            '[authorization.authzen]\nbearer_issuer = "https://a.example"',
            "one of authorization.authzen.bearer_audience and authorization.authzen.url must be set",
        ),
        ('[root]\ncacerts_dir = "/x"', "root.kind is disk"),
        ('[store]\nurl = "mysql://x/y"', "it must start with sqlite:/// or postgresql://"),
        ('[store]\nurl = "postgresql://host"', "it names no database"),
        ('[store]\nurl = "sqlite:///relative.db"', "SQLite needs an absolute path"),
        ('[store]\npassword_file = "file:x"', "SQLite has no password"),
        ('[store]\nurl = "postgresql://u:hunter2@h/d"', "a password does not belong into this file"),
        ('[keys]\nkek = "hunter2"', "it must be file:PATH or credential:NAME"),
        ('[keys]\nkek = "credential:../x"', "a credential's name has letters"),
        ('[sockets.admin]\nallow_uids = ["nobody-has-this-name"]', "this machine has no user 'nobody-has-this-name'"),
        ("[sockets.admin]\nallow_gids = [-1]", "-1 is not the number of a group"),
        ('[http]\naddress = "127.0.0.1:0"', "ports go from 1 to 65535"),
        ('[http]\naddress = "127.0.0.1:99999"', "ports go from 1 to 65535"),
        ('[authorization.authzen]\nbearer_issuer = "http://idp.example"', "is not an address such as https://idp"),
        ('[authorization.authzen]\nbearer_issuer = "https://u:p@idp.example/x"', "no password and no fragment"),
        ('[authorization.authzen]\nbearer_issuer = "https://idp.example/x"', "what tokens are meant for"),
        ('[authorization.authzen]\nbearer_audience = "x"', "it is set, and there is no issuer"),
        ('[authorization.authzen]\nentities = "e.yaml"\nentities_source = "store"', "they come from the store"),
        ('[authorization.authzen]\nallow = ["sub:"]', "names nobody"),
        ('[rotation.hooks]\nwebhook = "https://a..b/"', "is not an address such as https://gate.example.org/rotation"),
        ('[rotation.hooks]\nwebhook = "https://a b/"', "is not an address such as https://gate.example.org/rotation"),
        ('[rotation.hooks]\nwebhook = "http://gate/"', "would be asked in the clear"),
        ('[rotation.hooks]\nwebhook = "https://u:p@gate/"', "holds no password"),
        ('[rotation.hooks]\ncommand = "check"', "is not the absolute path of a program"),
        ('[rotation.hooks]\ntimeout = "21s"', "it must be from 100ms to 20s"),
        (
            '[rotation.hooks]\ntimeout = "11s"\ncommand = "/bin/true"\nwebhook = "https://gate/"',
            "with a command and a webhook, asked one after the other, it must be at most 10s",
        ),
        ('[rotation.schedule]\nquiet_hours = ["00:00-24:00"]', "they leave no minute of the week"),
        ('[svid]\nkey_type = "ed25519"', "it must be 'ec-p256'"),
        ("node_name = 'a/b'", "has a slash"),
        ("node_name = ''", "is not a SPIFFE ID"),
    ],
)
def test_what_does_not_fit_is_told_in_one_sentence_at_its_line(tmp_path: Path, text: str, mistake: str) -> None:
    path = written(tmp_path, 'trust_domain = "example.org"\ndata_dir = "."\n' + text)
    found = mistakes(path)
    assert len(found) == 1
    assert mistake in found[0]
    assert found[0].startswith(f"{path}:{3 if text.startswith('node_name') else 4 if '=' in text else 3}: ") or (
        "root.cacerts_dir" in found[0] or "root.kind" in found[0]
    )


def test_each_setting_that_is_missing_is_named_at_the_line_that_wants_it(tmp_path: Path) -> None:
    wanting = '[authorization.authzen]\naddress = "127.0.0.1:1"\n'
    path = written(tmp_path, 'trust_domain = "example.org"\ndata_dir = "."\n' + wanting)
    place = f"{path}:4: authorization.authzen.address: authorization"
    assert set(mistakes(path)) == {
        f"{place}.authzen.allow is empty, so nobody may ask",
        f"{place}.authzen.tls_cert must be set, since there is an address",
        f"{place}.authzen.tls_key must be set, since there is an address",
        f"{place}.policies must be set: there is nothing to decide by",
    }


def test_no_mistake_shows_a_secret(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        SMALLEST + '[store]\nurl = "postgres://u:hunter2@h"\npassword_file = "hunter2"\n[keys]\nkek = "hunter2"\n',
    )
    found = mistakes(path, {"CITADEL_KEYS__KEK": "hunter2"})
    assert len(found) == 4
    assert "hunter2" not in " ".join(found)


def test_no_repr_shows_a_secret(tmp_path: Path) -> None:
    env = {"CITADEL_STORE__URL": "postgresql://u:hunter2@h/d"}
    settings = config.load(written(tmp_path, SMALLEST), env)
    assert "hunter2" not in repr(settings) + str(config.flat(settings)) + repr(config.database_url(settings, {}))
    assert config.database_url(settings, {}).get_secret_value() == "postgresql://u:hunter2@h/d"


def test_text_that_is_not_toml_is_told_with_line_and_column(tmp_path: Path) -> None:
    path = written(tmp_path, "trust_domain = \n")
    assert mistakes(path) == [f"{path}:1:16: not TOML: Invalid value"]
    path = written(tmp_path, 'a = 1\nb = """\n')
    assert mistakes(path)[0].startswith(f"{path}:2: not TOML: ")


def test_bytes_that_are_not_text_are_told_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "citadel.toml"
    path.write_bytes(b"a = 1\nb = '\xff'\n")
    assert mistakes(path) == [f"{path}:2: it is not UTF-8 text"]


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no configuration file"):
        config.load(tmp_path / "none.toml", {})


def test_a_file_that_everybody_can_write_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, SMALLEST)
    path.chmod(0o666)
    with pytest.raises(UnsafePermissions) as caught:
        config.load(path, {})
    assert caught.value.mend == f"run: chmod o-w {path}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_denied(tmp_path: Path) -> None:
    path = written(tmp_path, SMALLEST)
    path.chmod(0)
    with pytest.raises(PermissionDenied):
        config.load(path, {})


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path, make: object) -> None:
    path = tmp_path / "citadel.toml"
    make(path)  # type: ignore[operator]  # one of the two above
    with pytest.raises(CitadelError, match="it is not a regular file"):
        config.load(path, {})


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "#" * (1 << 20) + "\n")
    assert mistakes(path) == [f"{path}: it is larger than 1048576 bytes"]


def test_what_kubernetes_sets_for_a_service_named_citadel_is_none_of_ours(tmp_path: Path) -> None:
    env = {
        "CITADEL_SERVICE_HOST": "10.0.0.1",
        "CITADEL_SERVICE_PORT": "443",
        "CITADEL_SERVICE_PORT_HTTP": "80",
        "CITADEL_PORT": "tcp://10.0.0.1:443",
        "CITADEL_PORT_443_TCP": "tcp://10.0.0.1:443",
        "CITADEL_PORT_443_TCP_ADDR": "10.0.0.1",
        "CITADEL_DEBUG": "1",
        "PATH": "/bin",
    }
    assert config.load(written(tmp_path, SMALLEST), env).trust_domain.name == "example.org"


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.1:80", "127.0.0.1:80"), ("[::1]:80", "[::1]:80"), ("localhost:80", "127.0.0.1:80"), ("", "None")],
)
def test_addresses_have_one_form(tmp_path: Path, address: str, expected: str) -> None:
    settings = config.load(written(tmp_path, SMALLEST), {"CITADEL_HTTP__ADDRESS": address})
    assert str(settings.http.address) == expected


def test_key_types_are_those_of_the_ca() -> None:
    assert set(get_args(KeyTypeName)) == {str(kind) for kind in KeyType}


def test_a_password_file_completes_the_database_url(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("p@ss word\n")
    secret.chmod(0o600)
    text = (
        SMALLEST + '[store]\nurl = "postgresql://citadel@db:5432/ca?sslmode=require"\npassword_file = "file:password"\n'
    )
    settings = config.load(written(tmp_path, text), {})
    url = config.database_url(settings, {})
    assert url.get_secret_value() == "postgresql://citadel:p%40ss%20word@db:5432/ca?sslmode=require"
    secret.chmod(0o640)
    with pytest.raises(UnsafePermissions, match="can be read by others"):
        config.database_url(settings, {})
    secret.unlink()
    with pytest.raises(NotFound):
        config.database_url(settings, {})


def test_a_credential_may_be_group_readable_as_systemd_makes_it(tmp_path: Path) -> None:
    text = SMALLEST + '[store]\nurl = "postgresql://citadel@db/ca"\npassword_file = "credential:db"\n'
    settings = config.load(written(tmp_path, text), {})
    secret = tmp_path / "db"
    secret.write_text("x")
    secret.chmod(0o440)
    url = config.database_url(settings, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert url.get_secret_value() == "postgresql://citadel:x@db/ca"
    secret.chmod(0o444)
    with pytest.raises(UnsafePermissions):
        config.database_url(settings, {"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_a_credential_is_a_file_in_the_folder_that_systemd_names(tmp_path: Path) -> None:
    source = config.SecretSource("credential", "kek")
    assert config.secret_path(source, {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == tmp_path / "kek"
    with pytest.raises(CitadelError) as caught:
        config.secret_path(source, {})
    assert "LoadCredential=kek" in caught.value.mend


def test_the_file_is_looked_for_where_nobody_else_could_have_put_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, SMALLEST)
    monkeypatch.chdir(tmp_path)
    env = {"HOME": str(tmp_path / "home")}
    assert tmp_path / "citadel.toml" not in config.search_path(env)
    assert config.find_config(Path("x.toml"), env) == Path("x.toml")
    assert config.find_config(None, env | {"CITADEL_CONFIG": "/y.toml"}) == Path("/y.toml")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            'client_ca = "ca.pem"',
            "client_ca: client_ca_trust_domains must say whom these CAs speak for",
        ),
        ('client_ca_trust_domains = ["a.org"]', "client_ca_trust_domains: there is no client_ca"),
        (
            'client_ca = "ca.pem"\nclient_ca_trust_domains = ["a.org"]\nclaims_from = ["spiffe://b.org/x"]',
            "claims_from: no client can be spiffe://b.org/x: the CAs of clients speak for a.org",
        ),
        ('claims_from = ["spiffe://b.org/x"]', "speak for example.org"),
    ],
)
def test_callers_of_authzen_are_of_domains_that_their_ca_speaks_for(tmp_path: Path, lines: str, said: str) -> None:
    authzen = 'address = "127.0.0.1:8443"\ntls_cert = "a"\ntls_key = "b"\nallow = ["uid:0"]\n'
    path = written(tmp_path, f'{SMALLEST}[authorization]\npolicies = "p"\n[authorization.authzen]\n{authzen}{lines}\n')
    with pytest.raises(BadFile, match=re.escape(said)):
        config.load(path, {})


def test_callers_of_authzen_may_be_of_a_domain_that_client_ca_speaks_for(tmp_path: Path) -> None:
    authzen = 'address = "127.0.0.1:8443"\ntls_cert = "a"\ntls_key = "b"\nallow = ["spiffe://a.org/x"]\n'
    more = 'client_ca = "ca.pem"\nclient_ca_trust_domains = ["a.org"]\n'
    path = written(tmp_path, f'{SMALLEST}[authorization]\npolicies = "p"\n[authorization.authzen]\n{authzen}{more}')
    assert config.load(path, {}).authorization.authzen.client_ca_trust_domains == (TrustDomain("a.org"),)
