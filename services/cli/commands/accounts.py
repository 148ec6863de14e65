"""`mallee account`: whose cloud this is."""

from __future__ import annotations

from typing import Annotated

import typer

from mallee.cli import options
from mallee.cli.output import Format, as_json, show, tell

app = typer.Typer(help="Accounts of this cloud.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="The account's name, one of its kind.")],
    state: options.State = None,
) -> None:
    """Make an account; prints its first access key, whose secret is shown only now."""
    from mallee.cli.client import Cloud

    made = Cloud.find(state).client("iam").create_account(AccountName=name)
    made.pop("ResponseMetadata", None)
    typer.echo(as_json(made))
    tell("Keep the secret now: it is shown only once.")


@app.command("list")
def list_(state: options.State = None, output: options.Output = Format.TABLE) -> None:
    """List the accounts."""
    from mallee.cli.client import Cloud

    show(Cloud.find(state).client("iam").list_accounts()["Accounts"], output, none="No accounts.")
