"""The command `mallee`: its list of commands, and what becomes of a failure.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 took too long.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - an older Python gets this far, and a sentence
    sys.exit(
        "Mallee needs Python 3.11 or newer; this is Python {}.{}. "
        "Make the environment with another one: python3.11 -m venv .venv".format(*sys.version_info)
    )

import os

import typer

from mallee import __version__
from mallee.cli.commands import (
    access,
    accounts,
    audit,
    checks,
    clouds,
    consoles,
    demo,
    images,
    looks,
    migrations,
    nodes,
    objects,
)
from mallee.kernel.errors import Fault, Kind

FAILED, USAGE, NOT_FOUND, TIMED_OUT = 1, 2, 3, 4

app = typer.Typer(
    name="mallee",
    help="A private cloud that unmodified boto3 and aws-cli talk to.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def top(
    *,
    version: bool = typer.Option(False, "--version", help="Print the version and end.", is_eager=True),
) -> None:
    """A private cloud that unmodified boto3 and aws-cli talk to."""
    if version:
        typer.echo(f"mallee {__version__}")
        raise typer.Exit


for group in (clouds, demo, access, looks, consoles, audit, migrations, checks):
    group.register(app)
app.add_typer(nodes.app, name="node")
app.add_typer(accounts.app, name="account")
app.add_typer(images.app, name="image")
app.add_typer(objects.app, name="s3")


def run() -> None:
    """The console script. Every failure that has a reason becomes a sentence and an exit code."""
    try:
        app(standalone_mode=True)
    except Fault as fault:
        _end(f"{fault}", NOT_FOUND if fault.kind is Kind.NOT_FOUND else FAILED)
    except TimeoutError as error:
        _end(str(error) or "It took too long.", TIMED_OUT)
    except KeyboardInterrupt:
        _end("", 130)
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python must not complain while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except Exception as error:
        known = _of_the_cloud(error)
        if known is None:
            raise
        _end(*known)


def _of_the_cloud(error: Exception) -> tuple[str, int] | None:
    """What boto3 raises, in the cloud's own words. Asked late: botocore costs a quarter second."""
    if "botocore" not in sys.modules:
        return None
    from botocore import exceptions

    match error:
        case exceptions.ClientError():
            told = error.response.get("Error", {})
            code = told.get("Code", "")
            text = f"{code}: {told.get('Message', '')}"
            return text, NOT_FOUND if "NotFound" in code or "NoSuchEntity" in code else FAILED
        case exceptions.EndpointConnectionError() | exceptions.ConnectTimeoutError():
            return f"The cloud does not answer: {error} Start it: mallee up", FAILED
        case exceptions.ReadTimeoutError() | exceptions.WaiterError():
            return f"{error}", TIMED_OUT
        case exceptions.BotoCoreError():
            return f"{error}", FAILED
    return None


def _end(text: str, code: int) -> None:
    if text:
        typer.echo(f"mallee: {text}", err=True)
    raise SystemExit(code)


if __name__ == "__main__":
    run()
