#!/bin/busybox sh
# The first process of the tiny guest: network by DHCP, the key and the user data from the metadata
# service, a shell over ssh, and a console that says what happened.
/bin/busybox --install -s /bin
export PATH=/bin:/sbin HOME=/root
mkdir -p /proc /sys /dev /tmp /run /root/.ssh /etc/dropbear /var/log
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts && mount -t devpts pts /dev/pts
mount -t tmpfs tmp /tmp
dmesg -n 3
while read -r module; do insmod "/lib/modules/$module" 2>/dev/null; done </lib/modules/order
ip link set lo up

# One request to the metadata service: METHOD PATH HEADER. Its body, if the answer is 200. A host that is
# busy is asked again, for a guest without its key is of no use to anybody.
metadata() {
    for _ in 1 2 3 4 5 6; do
        printf '%s %s HTTP/1.0\r\nHost: 169.254.169.254\r\n%s\r\n\r\n' "$1" "$2" "$3" |
            nc -w 5 169.254.169.254 80 >/tmp/answer 2>/dev/null
        status=
        {
            read -r _ status _
            while read -r line && [ "$line" != "$(printf '\r')" ]; do :; done
            [ "$status" = 200 ] && cat
        } </tmp/answer
        [ -n "$status" ] && return
        sleep 1
    done
}

configure() {
    token=$(metadata PUT /latest/api/token 'X-aws-ec2-metadata-token-ttl-seconds: 21600')
    [ -n "$token" ] || return 1
    with="X-aws-ec2-metadata-token: $token"
    name=$(metadata GET /latest/meta-data/local-hostname "$with")
    hostname "${name:-tiny}"
    echo "instance-id: $(metadata GET /latest/meta-data/instance-id "$with")"
    metadata GET /latest/meta-data/public-keys/0/openssh-key "$with" >/root/.ssh/authorized_keys
    chmod 700 /root/.ssh && chmod 600 /root/.ssh/authorized_keys
    metadata GET /latest/user-data "$with" >/tmp/user-data
    if [ "$(head -c 2 /tmp/user-data)" = '#!' ]; then
        chmod +x /tmp/user-data
        /tmp/user-data >/dev/console 2>&1 &
    fi
}

echo "tiny: $(uname -sr)"
if [ -e /sys/class/net/eth0 ]; then
    ip link set eth0 up
    udhcpc -q -n -t 10 -T 1 -i eth0 -s /etc/udhcpc.sh >/dev/null 2>&1 && ip -4 -o addr show eth0
    configure || echo "tiny: no metadata service"
    dropbear -R -s -g -E 2>/dev/null
fi
acpid -c /etc/acpi -l /var/log/acpid.log
echo "$(hostname) login:"
while :; do
    sleep 3600
done
