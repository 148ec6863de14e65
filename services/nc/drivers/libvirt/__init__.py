"""Real guests: QEMU under a libvirt daemon, one domain a copy.

`connection` speaks to the daemon, `domain` writes and reads its documents, `monitor` asks QEMU itself
where libvirt has no word for it, `migration` holds the two ends of a live migration, `driver` is the
seam's five-and-ten verbs over them.
"""
