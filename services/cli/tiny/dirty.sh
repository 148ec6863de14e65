#!/bin/sh
# dirty MIB_A_SECOND [MIB]: writes over and over a file in memory of so many MiB, at that rate.
rate=$1 size=${2:-$1} at=0
while :; do
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        dd if=/dev/urandom of=/tmp/dirty bs=102400 count="$rate" seek="$at" conv=notrunc 2>/dev/null
        at=$(((at + rate) % (size * 10)))
        usleep 100000
    done
done
