"""`mallee env` and `mallee configure`: how other tools find this cloud."""

from __future__ import annotations

import os
import shlex
from enum import StrEnum
from typing import Annotated

import typer

from mallee.cli import options
from mallee.cli.output import as_json, tell
from mallee.cli.state import Access, StateFolder


class Form(StrEnum):
    """The value of `--format`."""

    ENV = "env"
    AWS = "aws"
    TERRAFORM = "terraform"
    JSON = "json"


def register(app: typer.Typer) -> None:
    app.command()(env)
    app.command()(configure)


def env(
    state: options.State = None,
    form: Annotated[Form, typer.Option("--format", help="For which tool.")] = Form.ENV,
) -> None:
    """Print how to reach the cloud; for a shell: eval "$(mallee env)"."""
    import msgspec

    access = StateFolder.find(state).access()
    match form:
        case Form.ENV:
            typer.echo(exports(access), nl=False)
        case Form.AWS:
            typer.echo(aws_sections(access), nl=False)
        case Form.TERRAFORM:
            typer.echo(provider(access), nl=False)
        case Form.JSON:
            typer.echo(as_json(msgspec.to_builtins(access)))


def configure(
    state: options.State = None,
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Take everything out again.")] = False,
) -> None:
    """Write the AWS profile `mallee` and teach boto3 and aws-cli Mallee's own operations.

    Other profiles, [default] and other vendors' extensions stay as they are.
    """
    from mallee.cli import profile

    places = profile.Places.of(os.environ)
    if remove:
        for path in profile.remove(places):
            tell(f"cleaned {path}")
        return
    for path in profile.write(StateFolder.find(state).access(), places):
        tell(f"wrote {path}")
    tell("Try it: aws --profile mallee ec2 describe-instances")


def exports(access: Access) -> str:
    """For a POSIX shell.

    The extension of the models is not among them: aws-cli overrides `AWS_DATA_PATH`, so only
    `~/.aws/models`, which `mallee configure` writes, reaches every tool.
    """
    values = {
        "AWS_ENDPOINT_URL": access.endpoint,
        "AWS_ACCESS_KEY_ID": access.access_key_id,
        "AWS_SECRET_ACCESS_KEY": access.secret_access_key,
        "AWS_REGION": access.region,
        "AWS_DEFAULT_REGION": access.region,
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in values.items()]
    lines += [
        "unset AWS_PROFILE AWS_SESSION_TOKEN AWS_ENDPOINT_URL_S3",
        "# One endpoint serves EC2, IAM, STS and S3."
        + (f" The object store's own, for bulk data: {access.s3_endpoint}" if access.s3_endpoint else ""),
        "# For `aws ec2 migrate-instances` once run: mallee configure",
    ]
    return "\n".join(lines) + "\n"


def aws_sections(access: Access) -> str:
    """For `~/.aws/config`, as one profile that needs no other file."""
    from mallee.cli import profile

    parts = profile.sections(access)
    parts[f"profile {profile.NAME}"] += profile.keys(access)[profile.NAME]
    return "\n".join(f"[{name}]\n{lines}" for name, lines in parts.items())


def provider(access: Access) -> str:
    """A provider block of Terraform and OpenTofu; strings of HCL are those of JSON.

    The account is asked for and never skipped: without it the provider takes every referenced
    security group for another account's, and each plan wants to change the rule.
    """
    import json

    word = json.dumps
    services = "\n".join(f"    {name:<3} = {word(access.endpoint)}" for name in ("ec2", "iam", "s3", "sts"))
    return f"""provider "aws" {{
  region                  = {word(access.region)}
  access_key              = {word(access.access_key_id)}
  secret_key              = {word(access.secret_access_key)}
  skip_metadata_api_check = true
  skip_region_validation  = true
  s3_use_path_style       = true

  endpoints {{
{services}
  }}
}}
"""
