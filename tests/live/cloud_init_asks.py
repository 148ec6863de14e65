"""Run inside a guest by Debian's Python: cloud-init's own EC2 datasource asks, and what it found is printed as JSON."""

import json
import logging
import sys
import tempfile

from cloudinit import distros, helpers
from cloudinit.sources import DataSourceEc2

logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
# What the firmware says of a machine is beyond a namespace; of a guest it begins with `ec2`.
DataSourceEc2.identify_platform = lambda: DataSourceEc2.CloudNames.AWS

with tempfile.TemporaryDirectory() as folder:
    paths = helpers.Paths({"cloud_dir": folder, "run_dir": folder, "templates_dir": folder})
    distro = distros.fetch("debian")("debian", {}, paths)
    config = {"datasource": {"Ec2": {"max_wait": 10, "timeout": 5}}}
    source = DataSourceEc2.DataSourceEc2(config, distro, paths)
    found = source.get_data()
    sys.stdout.write(
        json.dumps(
            {
                "found": bool(found),
                "used_token": bool(source._api_token),
                "version": source.get_metadata_api_version() if found else "",
                "metadata": source.metadata if found else None,
                "user_data": (source.userdata_raw or b"").decode() if found else "",
                "keys": source.get_public_ssh_keys() if found else [],
                "instance_id": source.get_instance_id() if found else "",
                "zone": source.availability_zone if found else "",
                "region": source.region if found else "",
                "hostname": str(source.get_hostname()) if found else "",
                "network": source.network_config if found else None,
            },
            default=str,
        )
    )
