"""What a host lets through between its guests, in nft's words.

Two families share the work. The bridge family knows which guest's card a packet comes from and goes
to: there spoofing ends, and the groups' rules are asked. The ip family, through which the kernel leads
what is bridged (br_netfilter), knows connections: what no rule lets through passes if it belongs to
one that a rule has let begin. Between the two a mark is carried:

    the low 16 bits   the port of the guest's own metadata on this host
    DENIED            no rule lets this begin a connection
    KNOWN             it belongs to a connection that was let through
    HOST              a host itself says it: administrators reach the guests of their hosts

A rule that is taken away ends no connection that goes on, as on EC2.
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/security-group-connection-tracking.html
https://wiki.nftables.org/wiki-nftables/index.php/Bridge_filtering
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from mallee.domain.guards import Guards
from mallee.nc.drivers.libvirt.network.groups import chains_of
from mallee.nc.drivers.libvirt.network.plugs import Plug, Segment
from mallee.nc.metadata.server import ADDRESS

FAMILIES: Final = ("bridge", "ip", "inet")
DENIED, KNOWN, HOST, PORT = 0x10000, 0x20000, 0x40000, 0xFFFF
PACKETS_A_SECOND: Final = 1024  # that a guest may send to its metadata, as on EC2


def rules_of(segment: Segment, plugs: Sequence[Plug], guards: Guards) -> Iterator[str]:
    """The whole of our rules, to be put in place of what was there in one step; tables are named as the bridge.

    Every word is ours or was checked to be an address; none is a name that a user chose.
    """
    for family in FAMILIES:
        yield f"table {family} {segment.bridge} {{}}"
        yield f"delete table {family} {segment.bridge}"
    yield f"table bridge {segment.bridge} {{"
    yield from _arriving(segment, plugs)
    yield from chains_of(plugs, guards, f"meta mark set meta mark or {DENIED:#x}")
    yield from _crossing(segment, plugs)
    yield "}"
    yield from _connections(segment, plugs)
    yield from _host(segment)


def _arriving(segment: Segment, plugs: Sequence[Plug]) -> Iterator[str]:
    yield "chain arriving { type filter hook prerouting priority -300;"
    for plug in plugs:
        own = f'iifname "{plug.tap}"'
        yield f"{own} ether saddr != {plug.mac} drop"
        yield f"{own} ether type != {{ ip, arp }} drop"
        yield f"{own} ether type ip ip saddr != {{ {plug.address}, 0.0.0.0 }} drop"
        yield f"{own} ether type arp arp saddr ether != {plug.mac} drop"
        yield f"{own} ether type arp arp saddr ip != {{ {plug.address}, 0.0.0.0 }} drop"
        yield f"{own} ether type ip udp sport 67 drop"
        yield f"{own} ip daddr {ADDRESS} limit rate over {PACKETS_A_SECOND}/second burst {PACKETS_A_SECOND} packets drop"
        # To this host's service, whoever's address the guest still remembers from the host it came from.
        yield f"{own} ip daddr {ADDRESS} tcp dport 80 ether daddr set {segment.mac} meta mark set {plug.port} accept"
        yield f"{own} ip daddr {ADDRESS} drop"
    # Each host answers for the gateway and the metadata itself, and serves DHCP to its own guests alone.
    gateways = sorted({str(plug.subnet[1]) for plug in plugs} | {ADDRESS})
    from_others = f'iifname "{segment.tunnel}"'
    yield f"{from_others} ether type arp arp daddr ip {{ {', '.join(gateways)} }} drop"
    yield f"{from_others} ether type ip udp dport {{ 67, 68 }} drop"
    yield f"{from_others} ether type ip ip daddr {ADDRESS} drop"
    yield f"{from_others} meta mark set 0"
    if segment.others:
        yield f"{from_others} ether saddr {{ {', '.join(segment.others)} }} meta mark set {HOST:#x}"
    yield "}"


def _crossing(segment: Segment, plugs: Sequence[Plug]) -> Iterator[str]:
    """Where the guests' chains are asked: twice, because `accept` of the one must not answer for the other."""
    for hook, priority, way, interface in (
        ("forward", -210, "from", "iifname"),
        ("forward", -200, "into", "oifname"),
        ("input", -210, "from", "iifname"),
    ):
        yield f"chain {way}_{hook} {{ type filter hook {hook} priority {priority};"
        yield f"meta mark and {HOST:#x} != 0 accept"
        yield from _by_card(plugs, way, interface)
        yield "}"
    # What the host itself routes or says has met the other family already.
    yield "chain into_output { type filter hook output priority -200;"
    if segment.routed:
        # What it only sends on must not look, to another host, as if this one had said it.
        on_its_way = f'oifname "{segment.tunnel}" ether type ip meta mark and {HOST:#x} == 0'
        yield f"{on_its_way} ether saddr set {segment.routed} accept"
    yield f"meta mark and {KNOWN | HOST:#x} != 0 accept"
    yield from _by_card(plugs, "into", "oifname")
    yield f"meta mark and {DENIED:#x} != 0 drop"
    yield "}"


def _by_card(plugs: Iterable[Plug], way: str, interface: str) -> Iterator[str]:
    chains = ", ".join(f'"{plug.tap}" : jump {way}_{plug.tap}' for plug in plugs)
    if chains:
        yield f"ether type ip {interface} vmap {{ {chains} }}"


def _connections(segment: Segment, plugs: Sequence[Plug]) -> Iterator[str]:
    bridge = segment.bridge
    yield f"table ip {bridge} {{ chain arriving {{ type nat hook prerouting priority -100;"
    for plug in plugs:
        yield f'iifname "{bridge}" meta mark {plug.port} ip daddr {ADDRESS} tcp dport 80 dnat to {ADDRESS}:{plug.port}'
    yield "}"
    yield "chain crossing { type filter hook forward priority 0;"
    yield f'iifname != "{bridge}" oifname != "{bridge}" accept'
    yield f"ct state established,related meta mark set meta mark or {KNOWN:#x} accept"
    yield f"meta mark and {DENIED:#x} != 0 drop"
    yield "}"
    yield "chain leaving { type filter hook output priority 0;"
    yield f'oifname "{bridge}" meta mark set meta mark or {HOST:#x}'
    yield from ("}", "}")


def _host(segment: Segment) -> Iterator[str]:
    """Of the host itself a guest reaches what is meant for it, and nothing else that happens to listen."""
    yield f"table inet {segment.bridge} {{ chain host {{ type filter hook input priority 0;"
    # Nor does anybody else reach what is a guest's own: not from beside, and not from the host.
    yield f"ip daddr {ADDRESS} meta mark and {PORT:#x} == 0 drop"
    yield f'iifname != "{segment.bridge}" accept'
    yield "ct state established,related accept"
    yield f"meta mark and {PORT:#x} != 0 accept"
    yield "udp dport 67 accept"
    yield f"meta mark and {DENIED:#x} != 0 drop"
    yield "ip protocol icmp accept"
    yield "drop"
    yield from ("}", "}")
