"""Every bench, one after the other: what `make bench` runs. About half an hour on two cores.

python benches/run.py [--quick]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
WHOLE = (
    ("wire.py",),
    ("commit.py",),
    ("placement.py",),
    ("migration_model.py",),
    ("startup.py",),
    ("durable_runs.py",),
    ("thousand_nodes.py",),
    ("ec2_requests.py",),
    ("ec2_requests.py", "--flat", "1000,100000"),
    ("startup.py", "--fleet", "100000"),
    ("s3_requests.py",),
)
QUICK = (
    ("wire.py",),
    ("placement.py",),
    ("startup.py",),
    ("durable_runs.py", "--instances", "1600", "--rounds", "2"),
    ("ec2_requests.py", "--fleet", "1000", "--rounds", "3"),
    ("s3_requests.py", "--rounds", "3", "--small", "100", "--large", "2", "--keys", "100000"),
)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true", help="small fleets, a few minutes")
    for name, *flags in QUICK if options.parse_args().quick else WHOLE:
        print(f"\n== {name} {' '.join(flags)}", flush=True)
        subprocess.run([sys.executable, str(HERE / name), *flags], check=True)


if __name__ == "__main__":
    main()
