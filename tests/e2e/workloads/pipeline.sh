#!/bin/sh
# A pipeline whose sort spills to temporary files in the state dir; 200,000 lines in 40 portions.
set -e
mkdir sort-temp
portion=0
while [ $portion -lt 40 ]; do
    seq $((portion * 5000 + 1)) $((portion * 5000 + 5000))
    echo "portion $portion" >>progress.txt
    echo "portion $portion"  >&2
    [ -e "$HURRY" ] || sleep "$PACE"
    portion=$((portion + 1))
done | awk '{ print ($1 * 7919) % 1000003, $1; total += $1 } END { print "total", total >"total.txt" }' |
    sort -n -S 512k -T sort-temp --compress-program=gzip | gzip -n >sorted.gz
rmdir sort-temp
gzip -dc sorted.gz | cksum
