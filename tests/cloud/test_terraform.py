"""Terraform as it is: apply makes everything, a second plan finds nothing to do, destroy leaves nothing.

Needs the binary and the AWS provider within its reach (a `provider_installation` of the CLI
configuration that TF_CLI_CONFIG_FILE names, where there is no network); says so and passes by without.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mallee.cli.commands.access import provider
from tests.cloud.clouds import INSTANCE_TYPE, TestCloud

PLAN = """
terraform {
  required_providers {
    aws = {
      source = "hashicorp/aws"
    }
  }
}
data "aws_availability_zones" "here" {
  state = "available"
}
data "aws_ami" "tiny" {
  owners      = ["self", "amazon"]
  most_recent = true
}
data "aws_security_group" "default" {
  name = "default"
}
resource "aws_key_pair" "ada" {
  key_name   = "terraform"
  public_key = file("key.pub")
  tags       = { what = "käse" }
}
resource "aws_security_group" "web" {
  name        = "terraform-web"
  description = "rules in line"
  ingress {
    description = "ssh"
    protocol    = "tcp"
    from_port   = 22
    to_port     = 22
    cidr_blocks = ["10.0.0.0/8"]
  }
  egress {
    protocol         = "-1"
    from_port        = 0
    to_port          = 0
    cidr_blocks      = ["0.0.0.0/0"]
    ipv6_cidr_blocks = ["::/0"]
  }
  tags = { Name = "web" }
}
resource "aws_security_group" "db" {
  name_prefix = "terraform-db-"
}
resource "aws_vpc_security_group_ingress_rule" "web" {
  security_group_id            = aws_security_group.db.id
  referenced_security_group_id = aws_security_group.web.id
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
  tags                         = { Name = "rule" }
}
resource "aws_vpc_security_group_egress_rule" "out" {
  security_group_id = aws_security_group.db.id
  cidr_ipv4         = "10.0.0.0/8"
  ip_protocol       = "-1"
}
resource "aws_security_group_rule" "ping" {
  type              = "ingress"
  security_group_id = aws_security_group.db.id
  self              = true
  protocol          = "icmp"
  from_port         = 8
  to_port           = 0
}
resource "aws_instance" "one" {
  ami                    = data.aws_ami.tiny.id
  instance_type          = "INSTANCE_TYPE"
  key_name               = aws_key_pair.ada.key_name
  vpc_security_group_ids = [aws_security_group.web.id]
  user_data              = "#!/bin/sh"
  tags                   = { Name = "terraform" }
}
"""


def terraform(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return subprocess.run(
        [shutil.which("terraform") or "terraform", *words, "-no-color", "-input=false"],
        cwd=folder,
        env=clean | {"CHECKPOINT_DISABLE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def installed(cloud: TestCloud, folder: Path, plan: str) -> Path:
    """The folder with a plan and what it needs; the test passes by where Terraform or its provider is missing."""
    if shutil.which("terraform") is None:
        pytest.skip("terraform is not installed")
    (folder / "provider.tf").write_text(provider(cloud.access))
    (folder / "main.tf").write_text(plan)
    started = terraform(folder, "init")
    if started.returncode:
        why = " ".join(started.stderr.replace("│", "").split())
        pytest.skip(f"terraform finds no AWS provider: {why[:200]}")
    return folder


@pytest.fixture
def plan(cloud: TestCloud, tmp_path: Path) -> Path:
    """A folder with the plan, the provider installed."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    return installed(cloud, tmp_path, PLAN.replace("INSTANCE_TYPE", INSTANCE_TYPE))


def test_apply_plan_destroy(cloud: TestCloud, plan: Path) -> None:
    applied = terraform(plan, "apply", "-auto-approve")
    assert applied.returncode == 0, applied.stderr
    assert "7 added, 0 changed, 0 destroyed" in applied.stdout

    planned = terraform(plan, "plan", "-detailed-exitcode")
    assert planned.returncode == 0, planned.stdout + planned.stderr

    destroyed = terraform(plan, "destroy", "-auto-approve")
    assert destroyed.returncode == 0, destroyed.stderr
    left = cloud.ec2.describe_security_groups()["SecurityGroups"]
    assert not [group for group in left if group["GroupName"].startswith("terraform")]
    assert not cloud.describe()
