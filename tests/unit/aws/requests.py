"""Requests for tests."""

from mallee.aws.context import Principal, Request

ADA = Principal("000000000001", "arn:aws:iam::000000000001:user/ada", "AIDA1", "AKIDEXAMPLE")


def request(**changes) -> Request:
    fields = {
        "request_id": "r-1",
        "service": "ec2",
        "operation": "DescribeInstances",
        "version": "2016-11-15",
        "region": "mallee-1",
        "principal": ADA,
        "parameter_hash": "h",
    }
    return Request(**fields | changes)
