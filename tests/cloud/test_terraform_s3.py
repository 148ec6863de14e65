"""Terraform's resources of buckets: apply, a plan that finds nothing to do, a change, destroy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cloud.clouds import TestCloud
from tests.cloud.test_terraform import installed, terraform

PLAN = """
terraform {
  required_providers {
    aws = {
      source = "hashicorp/aws"
    }
  }
}
variable "body" {
  default = "hello"
}
data "aws_caller_identity" "me" {}
resource "aws_s3_bucket" "data" {
  bucket        = "terraform-data"
  force_destroy = true
  tags          = { team = "größe" }
}
resource "aws_s3_bucket_versioning" "data" {
  bucket = aws_s3_bucket.data.id
  versioning_configuration {
    status = "Enabled"
  }
}
resource "aws_s3_bucket_server_side_encryption_configuration" "data" {
  bucket = aws_s3_bucket.data.id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}
resource "aws_s3_bucket_public_access_block" "data" {
  bucket                  = aws_s3_bucket.data.id
  block_public_acls       = true
  block_public_policy     = false
  ignore_public_acls      = true
  restrict_public_buckets = false
}
resource "aws_s3_bucket_ownership_controls" "data" {
  bucket = aws_s3_bucket.data.id
  rule {
    object_ownership = "BucketOwnerPreferred"
  }
}
resource "aws_s3_bucket_acl" "data" {
  depends_on = [aws_s3_bucket_ownership_controls.data]
  bucket     = aws_s3_bucket.data.id
  acl        = "private"
}
resource "aws_s3_bucket_policy" "data" {
  depends_on = [aws_s3_bucket_public_access_block.data]
  bucket     = aws_s3_bucket.data.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "open"
      Effect    = "Allow"
      Principal = { AWS = data.aws_caller_identity.me.account_id }
      Action    = ["s3:GetObject", "s3:ListBucket"]
      Resource  = [aws_s3_bucket.data.arn, "${aws_s3_bucket.data.arn}/*"]
    }]
  })
}
resource "aws_s3_bucket_cors_configuration" "data" {
  bucket = aws_s3_bucket.data.id
  cors_rule {
    allowed_methods = ["GET"]
    allowed_origins = ["https://*.example"]
    max_age_seconds = 60
  }
}
resource "aws_s3_bucket_lifecycle_configuration" "data" {
  depends_on = [aws_s3_bucket_versioning.data]
  bucket     = aws_s3_bucket.data.id
  rule {
    id     = "logs"
    status = "Enabled"
    filter {
      prefix = "logs/"
    }
    expiration {
      days = 30
    }
    noncurrent_version_expiration {
      noncurrent_days = 7
    }
    abort_incomplete_multipart_upload {
      days_after_initiation = 3
    }
  }
}
resource "aws_s3_bucket" "locked" {
  bucket              = "terraform-locked"
  object_lock_enabled = true
}
resource "aws_s3_bucket_object_lock_configuration" "locked" {
  bucket = aws_s3_bucket.locked.id
  rule {
    default_retention {
      mode = "GOVERNANCE"
      days = 1
    }
  }
}
resource "aws_s3_object" "one" {
  depends_on   = [aws_s3_bucket_versioning.data, aws_s3_bucket_server_side_encryption_configuration.data]
  bucket       = aws_s3_bucket.data.id
  key          = "folder/hello ä.txt"
  content      = var.body
  content_type = "text/plain"
  etag         = md5(var.body)
  tags         = { kind = "greeting" }
}
resource "aws_s3_object" "plain" {
  bucket  = aws_s3_bucket.data.id
  key     = "folder/plain"
  content = "plain"
}
resource "aws_s3_object_copy" "two" {
  bucket = aws_s3_bucket.data.id
  key    = "copy"
  source = "${aws_s3_bucket.data.id}/${aws_s3_object.plain.key}"
}
data "aws_s3_objects" "all" {
  bucket     = aws_s3_bucket.data.id
  depends_on = [aws_s3_object.one, aws_s3_object_copy.two]
}
output "keys" {
  value = data.aws_s3_objects.all.keys
}
"""


@pytest.fixture
def plan(shared_cloud: TestCloud, tmp_path: Path) -> Path:
    """A folder with the plan, the provider installed."""
    return installed(shared_cloud, tmp_path, PLAN)


# The provider looks at a new lifecycle for a minute before it believes it, whatever it is told.
@pytest.mark.timeout(900)
def test_apply_plan_change_destroy(shared_cloud: TestCloud, plan: Path, s3: Any) -> None:
    applied = terraform(plan, "apply", "-auto-approve")
    assert applied.returncode == 0, applied.stderr
    assert "14 added, 0 changed, 0 destroyed" in applied.stdout

    planned = terraform(plan, "plan", "-detailed-exitcode")
    assert planned.returncode == 0, planned.stdout + planned.stderr

    found = s3.get_object(Bucket="terraform-data", Key="folder/hello ä.txt")
    assert (found["Body"].read(), found["ServerSideEncryption"]) == (b"hello", "AES256")
    changed = terraform(plan, "apply", "-auto-approve", "-var", "body=other")
    assert changed.returncode == 0, changed.stderr
    assert s3.get_object(Bucket="terraform-data", Key="folder/hello ä.txt")["Body"].read() == b"other"

    destroyed = terraform(plan, "destroy", "-auto-approve")
    assert destroyed.returncode == 0, destroyed.stderr
    left = [one["Name"] for one in s3.list_buckets()["Buckets"]]
    assert not [name for name in left if name.startswith("terraform")]
