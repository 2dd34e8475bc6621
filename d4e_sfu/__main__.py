"""The command line: serve, check, config, reload, drain, systemd-sockets, connector, token, token-id, links, tls,
audit, doctor, evidence, support-bundle, version.

It reads arguments and a configuration, calls one function, and turns what comes back into an exit code: 0, 1 (it
failed), 2 (wrong arguments) or 78 (the configuration; `sysexits.h`). What goes to standard output can be piped on;
everything for people goes to standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import importlib.metadata
import ipaddress
import json
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from d4e_sfu import config as configuration
from d4e_sfu import logs, migration
from d4e_sfu.config import Config, Key, Role
from d4e_sfu.core import diagnosis, evidence, firewall, policy, tokens
from d4e_sfu.document import DocumentError
from d4e_sfu.errors import EX_CONFIG, EX_FAILURE, EX_OK, ClientError, ConfigError, Problem

if TYPE_CHECKING:
    from d4e_sfu.drivers.audit import Secret
    from d4e_sfu.drivers.control import Verdict

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
MAX_TTL: Final = 366 * 86400

NO_KEY: Final = """\
there is no key, so nobody could join. Make a secret and name it:
    (umask 077; openssl rand -base64 48 > province.key)
    keys:
      - {id: province, secret_file: province.key, default_role: patient}"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EX_CONFIG
    except _Refusal as refusal:
        print(f"d4e-sfu: {refusal}", file=sys.stderr)
        return refusal.code
    except BrokenPipeError:  # `d4e-sfu links | head -1`
        sys.stderr.close()
        return EX_OK


class _Refusal(Exception):  # noqa: N818 - it is no error of ours
    """A sentence for whoever typed the command."""

    def __init__(self, sentence: str, *, code: int = EX_FAILURE) -> None:
        super().__init__(sentence)
        self.code = code


# --- commands --------------------------------------------------------------------------------------------------------


def _serve(options: argparse.Namespace) -> int:
    config = _servable(options.config)
    logs.configure(options.log_level)
    if options.rehearse:
        from d4e_sfu import rehearsal

        return rehearsal.run(config)
    from d4e_sfu import server  # the engine and the event loop: no other command waits for them

    return server.run(config, reload=functools.partial(_servable, options.config))


def _servable(file: str) -> Config:
    """A server without a key would run, and let nobody in. A reload must not bring it there either."""
    config = configuration.load(file)
    if not config.keys:
        raise ConfigError([Problem(file, 1, 1, "keys", NO_KEY)])
    return config


def _check(options: argparse.Namespace) -> int:
    if options.diff is not None:
        return _outlook(options.diff, options.file)
    config = configuration.load(options.file)
    if not config.keys:
        print(f"{options.file}: right, but it names no key: `serve` will not start", file=sys.stderr)
    else:
        print(f"{options.file}: right", file=sys.stderr)
    return EX_OK


def _outlook(old: str, new: str) -> int:
    """To standard output what a reload would do with the new file, when the old one is what runs."""
    before, after = configuration.load(old), _servable(new)
    for line in configuration.outlook(before, before, after):
        print(line)
    return EX_OK


def _config_migrate(options: argparse.Namespace) -> int:
    """The file as it was stays beside it, under `.before`."""
    file = Path(options.file)
    try:
        old = file.read_bytes()
        new, done = migration.migrate(old)
        for each in done:
            print(f"{file}:{each.line}: {each.old} is called {each.new} now", file=sys.stderr)
        if not done:
            print(f"{file}: nothing is called otherwise now", file=sys.stderr)
        elif not options.dry_run:
            file.with_name(f"{file.name}.before").write_bytes(old)
            file.with_name(f"{file.name}.before").chmod(file.stat().st_mode & 0o777)
            file.write_bytes(new)  # its owner, its mode and whoever watches it stay
    except DocumentError as error:
        raise ConfigError([Problem(str(file), *error.flaw[:2], "", error.flaw.message)]) from None
    except OSError as error:
        raise _Refusal(f"{error.filename}: {error.strerror}", code=EX_CONFIG) from None
    return EX_OK


def _reload(options: argparse.Namespace) -> int:
    """78 where the configuration is refused, so that `systemctl reload` fails as `check` does."""
    verdict = _asked(options.config, "reload")
    print("\n".join(verdict.lines) or "nothing has changed", file=sys.stderr)
    return EX_OK if verdict.accepted else EX_CONFIG


def _drain(options: argparse.Namespace) -> int:
    verdict = _asked(options.config, "drain", timeout=None)
    print("\n".join(verdict.lines), file=sys.stderr)
    return EX_OK if verdict.accepted else EX_FAILURE


def _asked(file: str, command: str, *, timeout: float | None = 30.0) -> Verdict:
    from d4e_sfu.drivers import control

    # Where the server listens is needed, and no more: what is wrong in the file is for the server to say.
    path = configuration.control_path(file)
    if path is None:
        raise _Refusal(f"{file} names no control socket: set admin.control, and restart the server", code=EX_CONFIG)
    try:
        return control.ask(path, command, timeout=timeout)
    except OSError as error:
        raise _Refusal(f"no verdict from the server at {path}: {error.strerror or error}") from None


def _connector(options: argparse.Namespace) -> int:
    from d4e_sfu.drivers import connector

    settings = configuration.webhooks(options.config)
    logs.configure("info")
    try:
        return connector.run(settings.urls, options.socket or settings.socket)
    except OSError as error:
        raise _Refusal(f"cannot start: {error}", code=EX_CONFIG) from None


def _audit_verify(options: argparse.Namespace) -> int:
    from d4e_sfu.drivers import audit

    folder, secret = _audit(options.config)
    try:
        with contextlib.ExitStack() as stack:
            journal: Iterable[str] = ()
            if options.checkpoints == "-":
                journal = sys.stdin
            elif options.checkpoints is not None:
                journal = stack.enter_context(Path(options.checkpoints).open(errors="replace"))
            report = audit.examine(folder, secret, journal)
    except OSError as error:
        raise _Refusal(f"{error.filename or folder}: {error.strerror or error}") from None
    for problem in report.problems:
        print(problem)
    right = "right" if not report.problems else f"{len(report.problems)} problems"
    unseen = f"the last {report.younger} are younger than the last checkpoint: a cut among them would not be seen"
    print(f"{report.records} records, {report.first} to {report.last}: {right}; {unseen}", file=sys.stderr)
    return EX_FAILURE if report.problems else EX_OK


def _audit_pseudonym(options: argparse.Namespace) -> int:
    _, secret = _audit(options.config)
    print(secret.pseudonym("room" if options.room else "person", options.name))
    return EX_OK


def _audit_public_key(options: argparse.Namespace) -> int:
    print(_audit(options.config)[1].public)
    return EX_OK


def _audit(file: str) -> tuple[Path, Secret]:
    from d4e_sfu.drivers.audit import Secret

    config = configuration.load(file)
    if config.audit.folder is None:
        raise _Refusal(f"{file} names no audit log: set audit.folder and audit.secret_file", code=EX_CONFIG)
    return config.audit.folder, Secret(config.audit.secret)


def _systemd_sockets(options: argparse.Namespace) -> int:
    from d4e_sfu.drivers import engine, sockets

    config = configuration.load(options.config)
    try:
        print(sockets.unit(config, media_addresses=engine.interface_addresses()), end="")
    except ValueError as error:
        raise _Refusal(f"{options.config}: {error}", code=EX_CONFIG) from None
    return EX_OK


def _token(options: argparse.Namespace) -> int:
    config = configuration.load(options.config)
    print(_signed(config, options, identity=options.identity, role=options.role, name=options.name))
    return EX_OK


def _token_id(options: argparse.Namespace) -> int:
    given = sys.stdin.read(2 * tokens.MAX_TOKEN) if options.written == "-" else options.written
    print(tokens.token_id(given.strip()))
    return EX_OK


def _links(options: argparse.Namespace) -> int:
    """One per role and listener. After the `#`, because that part of an address is sent to no server and no log."""
    config = configuration.load(options.config)
    for role in config.roles:
        identity = f"{role}-{secrets.token_hex(3)}"
        token = _signed(config, options, identity=identity, role=role, name=role)
        for address in _addresses(config, options.host):
            print(f"{role}\t{address}/#room={quote(options.room, safe='')}&token={token}")
    return EX_OK


def _version(_options: argparse.Namespace) -> int:
    print(_released())
    return EX_OK


def _released() -> str:
    try:
        return importlib.metadata.version("d4e-sfu")
    except importlib.metadata.PackageNotFoundError:
        return "unreleased (a source tree)"


_SHOWN: Final = {
    "en": {"good": "ok     ", "bad": "WRONG  ", "unknown": "?      "},
    "vi": {"good": "tốt    ", "bad": "LỖI    ", "unknown": "?      "},
}
_COLOURS: Final = {"good": "32", "bad": "31;1", "unknown": "33"}


def _doctor(options: argparse.Namespace) -> int:
    config = configuration.load(options.config)
    if options.firewall_form:
        print(firewall.form(config, host=options.host or socket.gethostname(), language=options.lang), end="")
        return EX_OK
    from d4e_sfu.drivers import probes

    findings = diagnosis.diagnose(probes.look(config, host=options.host or _certified(config)))
    if options.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], ensure_ascii=False, indent=1))
    else:
        for finding in findings:
            mark = _SHOWN[options.lang][finding.state]
            if sys.stdout.isatty():
                mark = f"\x1b[{_COLOURS[finding.state]}m{mark}\x1b[0m"
            print(f"{mark}{finding.check:<12} {finding.vi if options.lang == 'vi' else finding.en}")
    return EX_FAILURE if any(finding.state == "bad" for finding in findings) else EX_OK


def _support(options: argparse.Namespace) -> int:
    from d4e_sfu.drivers import probes, support

    config = configuration.load(options.config)
    findings = [dataclasses.asdict(each) for each in diagnosis.diagnose(probes.look(config, host=_certified(config)))]
    try:
        support.write(options.output, config, findings=findings, version=_released())
    except OSError as error:
        raise _Refusal(f"{options.output}: {error.strerror or error}") from None
    print(options.output)
    return EX_OK


def _evidence(options: argparse.Namespace) -> int:
    print(evidence.table(configuration.load(options.config), file=options.config, language=options.lang), end="")
    return EX_OK


def _certified(config: Config) -> str | None:
    """The first name of our certificate: the one by which browsers come, unless somebody says another."""
    from d4e_sfu.drivers import examination

    try:
        return examination.first_name(config.http.tls.certificate.read_bytes()) if config.http.tls.certificate else None
    except OSError:
        return None


def _tls_check(options: argparse.Namespace) -> int:
    from d4e_sfu.drivers import examination  # OpenSSL, which no other command waits for

    try:
        certificate, key = options.certificate.read_bytes(), options.key.read_bytes()
        authorities = options.authorities.read_bytes() if options.authorities else b""
    except OSError as error:
        raise _Refusal(f"{error.filename}: {error.strerror}", code=EX_CONFIG) from None
    findings = examination.examine(certificate, key, hosts=options.host, now=datetime.now(UTC), authorities=authorities)
    for finding in findings:
        text = finding.vi if options.lang == "vi" else finding.en
        print(f"{options.certificate}: {finding.rule}: {text}", file=sys.stderr)
    if not findings:
        print(f"{options.certificate}: good", file=sys.stderr)
    return EX_CONFIG if any(finding.fatal for finding in findings) else EX_OK


def _tls_development(options: argparse.Namespace) -> int:
    from d4e_sfu.drivers import certificates

    for path in certificates.development(options.folder, options.host):
        print(path)
    return EX_OK


# --- what they share -------------------------------------------------------------------------------------------------


def _signed(config: Config, options: argparse.Namespace, *, identity: str, role: str, name: str) -> str:
    """A token that has been through the same doors as a client's: what is printed works."""
    if role not in config.roles:
        raise _Refusal(f"no role {role!r}; known: {', '.join(config.roles)}")
    now = time.time()
    token = tokens.mint(
        _key(config, options.key),
        identity=identity,
        room=options.room,
        role=role,
        name=name,
        now=now,
        ttl=options.ttl,
        video=_grants(config.roles[role]),
    )
    try:
        policy.rights(config, tokens.verify(token, config, now=now))
    except ClientError as error:
        raise _Refusal(f"this token would be refused: {error} ({error.rule})") from None
    return token


def _grants(role: Role) -> dict[str, bool]:
    """All that the role may do and a token must ask for: a right is grant AND role."""
    return {
        "roomAdmin": role.moderate,
        "canUpdateOwnMetadata": role.update_own_metadata,
        "hidden": role.hidden,
    }


def _key(config: Config, key_id: str | None) -> Key:
    if not config.keys:
        raise _Refusal("the configuration names no key to sign with", code=EX_CONFIG)
    if key_id is None:
        found = next((key for key in config.keys if key.can_sign), None)
        if found is None:
            raise _Refusal("none of the keys has a secret to sign with", code=EX_CONFIG)
        return found
    key = config.key(key_id)
    if key is not None and not key.can_sign:
        raise _Refusal(f"key {key_id!r} has no secret to sign with: others sign")
    if key is None:
        raise _Refusal(f"no key {key_id!r}; known: {', '.join(key.id for key in config.keys)}")
    return key


def _addresses(config: Config, host: str | None) -> Iterator[str]:
    for listener in config.http.listeners:
        address = ipaddress.ip_address(listener.address)
        if address.is_loopback:
            shown = "localhost"  # a secure context by definition, which an address is not everywhere
        elif host is not None:
            shown = host
        elif address.is_unspecified:
            continue  # only the operator knows by which name others reach this machine
        else:
            shown = f"[{address}]" if address.version == 6 else str(address)
        yield f"{'https' if listener.tls else 'http'}://{shown}:{listener.port}"


def _language() -> str:
    spoken = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return "vi" if spoken.startswith("vi") else "en"


def _duration(text: str) -> float:
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text, flags=re.ASCII)
    if match is None or not 0 < (seconds := int(match[1]) * _SECONDS[match[2]]) <= MAX_TTL:
        raise argparse.ArgumentTypeError(f"expected a time such as 90s, 6h or 30d, at most 366d, not {text!r}")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="d4e-sfu", description="A video-conferencing server: a selective forwarder.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="run the server until SIGTERM; SIGHUP reads the configuration again")
    serve.add_argument("--config", required=True, metavar="FILE")
    serve.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    serve.add_argument("--rehearse", action="store_true", help="start beside what serves, on loopback, and end")
    serve.set_defaults(run=_serve)

    check = commands.add_parser("check", help="tell every mistake in a configuration, or that there is none")
    check.add_argument("file", metavar="FILE")
    check.add_argument("--diff", metavar="OLD", help="tell what a reload from OLD to FILE would do")
    check.set_defaults(run=_check)

    settings = commands.add_parser("config", help="the configuration").add_subparsers(required=True, metavar="COMMAND")
    renamed = settings.add_parser("migrate", help="rewrite FILE with what its keys are called now; FILE.before stays")
    renamed.add_argument("file", metavar="FILE")
    renamed.add_argument("--dry-run", action="store_true", help="tell what would change, and change nothing")
    renamed.set_defaults(run=_config_migrate)

    for name, run, meaning in (
        ("reload", _reload, "let the running server read its configuration again, and wait for its verdict"),
        ("drain", _drain, "let the running server take no new rooms and end with its last call; waits for that"),
        ("systemd-sockets", _systemd_sockets, "print the socket unit with which systemd binds what FILE names"),
    ):
        command = commands.add_parser(name, help=meaning)
        command.add_argument("--config", required=True, metavar="FILE")
        command.set_defaults(run=run)

    sends = commands.add_parser("connector", help="send to addresses outside what the server hands over: webhooks")
    sends.add_argument("--config", required=True, metavar="FILE")
    sends.add_argument("--socket", type=Path, metavar="PATH", help="where to listen; webhooks.socket unless given")
    sends.set_defaults(run=_connector)

    token = commands.add_parser("token", help="print a token for one person, and nothing else")
    token.add_argument("--identity", required=True, help="who it is for; unique in the room")
    token.add_argument("--role", required=True)
    token.add_argument("--name", default="", help="shown to others")
    token.set_defaults(run=_token)

    named = commands.add_parser("token-id", help="print what stands for a token in the file `revoked`")
    named.add_argument("written", metavar="TOKEN", help="- for standard input, which no list of processes shows")
    named.set_defaults(run=_token_id)

    links = commands.add_parser("links", help="print join links, one per role and listener")
    links.add_argument("--host", help="name or address by which others reach this machine")
    links.set_defaults(run=_links)

    for command in (token, links):
        command.add_argument("--config", required=True, metavar="FILE")
        command.add_argument("--room", required=True)
        command.add_argument("--ttl", type=_duration, default=_duration("6h"), metavar="TIME", help="6h unless given")
        command.add_argument("--key", metavar="ID", help="the key to sign with; the first unless given")

    doctor = commands.add_parser("doctor", help="look for what is wrong on this machine, and tell how to mend it")
    doctor.add_argument("--config", required=True, metavar="FILE")
    doctor.add_argument("--host", metavar="NAME", help="by which browsers come; else the certificate's first name")
    doctor.add_argument("--lang", choices=("en", "vi"), default=_language())
    doctor.add_argument("--json", action="store_true")
    doctor.add_argument("--firewall-form", action="store_true", help="print what the network department has to open")
    doctor.set_defaults(run=_doctor)

    helped = commands.add_parser(
        "support-bundle", help="write an archive for whoever helps, without anything of a person"
    )
    helped.add_argument("--config", required=True, metavar="FILE")
    helped.add_argument("--output", type=Path, default=Path("d4e-sfu-support.tar.gz"), metavar="FILE")
    helped.set_defaults(run=_support)

    table = commands.add_parser("evidence", help="print the table that an auditor asks for: control, setting, proof")
    table.add_argument("--config", required=True, metavar="FILE")
    table.add_argument("--lang", choices=("en", "vi"), default=_language())
    table.set_defaults(run=_evidence)

    tls = commands.add_parser("tls", help="certificates of HTTPS").add_subparsers(required=True, metavar="COMMAND")
    examined = tls.add_parser("check", help="tell everything that is wrong with a certificate and its key")
    examined.add_argument("--certificate", type=Path, required=True, metavar="FILE", help="PEM, then its chain")
    examined.add_argument("--key", type=Path, required=True, metavar="FILE", help="PEM")
    examined.add_argument("--host", action="append", default=[], help="a name that it must be for; repeatable")
    examined.add_argument("--authorities", type=Path, metavar="FILE", help="PEM: those that clients trust")
    examined.add_argument("--lang", choices=("en", "vi"), default=_language())
    examined.set_defaults(run=_tls_check)
    tried = tls.add_parser("development", help="make development.crt and development.key, which browsers warn of")
    tried.add_argument("folder", type=Path, metavar="FOLDER")
    tried.add_argument("host", nargs="*", metavar="HOST", help="another name or address of this machine")
    tried.set_defaults(run=_tls_development)

    audit = commands.add_parser("audit", help="the audit log").add_subparsers(required=True, metavar="COMMAND")
    verify = audit.add_parser("verify", help="tell every change, removal and cut in it, or that there is none")
    verify.add_argument(
        "--checkpoints", metavar="FILE", help="what journalctl says of the server, - for standard input: finds cuts"
    )
    verify.set_defaults(run=_audit_verify)
    pseudonym = audit.add_parser("pseudonym", help="print what stands for a person (or a room) in the log")
    pseudonym.add_argument("name", metavar="IDENTITY")
    pseudonym.add_argument("--room", action="store_true", help="the name is a room's")
    pseudonym.set_defaults(run=_audit_pseudonym)
    public = audit.add_parser("public-key", help="print the key (Ed25519) that checkpoints are signed with")
    public.set_defaults(run=_audit_public_key)
    for command in (verify, pseudonym, public):
        command.add_argument("--config", required=True, metavar="FILE")

    version = commands.add_parser("version", help="print the version")
    version.set_defaults(run=_version)
    return parser


if __name__ == "__main__":
    sys.exit(main())
