"""Images from files of this machine: looked at, uploaded, registered; and a whole Debian one, built."""
