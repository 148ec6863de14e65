"""The instance metadata service: what a guest may learn about itself at 169.254.169.254.

`categories` says what there is to know, `door` answers HTTP for one guest, `server` opens a port for
each guest. Which guest asks is decided by the port that its own network card is led to, never by an
address that a guest could put on.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-metadata.html
"""
