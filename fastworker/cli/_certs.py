"""``fastworker certs``: certificates for a first set-up with TLS."""

from __future__ import annotations

from pathlib import Path

import click

from fastworker.cli._errors import errors_in_one_line


@click.group()
def certs() -> None:
    """Make certificates for tls+tcp:// addresses."""


@certs.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="HOST",
    help="A name or IP address under which the control plane is dialed, beside localhost; "
    "may be given again.",
)
def init(folder: Path, hosts: tuple[str, ...]) -> None:
    """Make a private authority, and a certificate for each role, in DIR.

    The authority lasts ten years, certificates 397 days. Keys are for their owner
    alone, and nothing is ever overwritten. ca.key is needed only to make more
    certificates: keep it off line. Needs the extra 'tls'.
    """
    with errors_in_one_line():
        from datetime import UTC, datetime

        from fastworker._errors import ConfigurationError

        try:
            from fastworker._certificates import make_first_certificates
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] != "cryptography":
                raise
            raise ConfigurationError(
                "certificates are made with the extra 'tls': pip install 'fastworker[tls]'"
            ) from None
        for path in make_first_certificates(folder, hosts, now=datetime.now(UTC)):
            click.echo(path)
        click.echo(_next_commands(folder, hosts), err=True)


def _next_commands(folder: Path, hosts: tuple[str, ...]) -> str:
    import shlex

    host = hosts[0] if hosts else "127.0.0.1"
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    listen = "0.0.0.0" if hosts else host  # noqa: S104 - printed, and peers need certificates

    def files(name: str) -> str:
        parts = {"ca": "ca.pem", "cert": f"{name}.pem", "key": f"{name}.key"}
        paths = {what: shlex.quote(str(folder / file)) for what, file in parts.items()}
        return " ".join(f"--tls-{what} {path}" for what, path in paths.items())

    return f"""
Take ca.key off this machine: it can make certificates for everybody.
Give each machine ca.pem and the certificate and key of its role only. Then:

  fastworker control-plane --task-modules MODULE \\
      --base-address tls+tcp://{listen}:5555 --discovery-address tls+tcp://{listen}:5550 \\
      {files("control-plane")}
  fastworker subworker --worker-id w1 --task-modules MODULE \\
      --control-plane-address tls+tcp://{host}:5560 \\
      {files("worker")}
  fastworker list --discovery-address tls+tcp://{host}:5550 \\
      {files("client")}

'fastworker tasks', 'workers', 'drain' and the like are for the operator's certificate."""
