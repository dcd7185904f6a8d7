#!/usr/bin/env bash
# The task of tools/demo: simulates reads of a genome, counts their 11-mers, and ranks them into the file $1.
#
# It knows nothing of fsnap. Its output depends on nothing but its code, so that two runs can be compared.
set -euo pipefail
export LC_ALL=C
unset PYTHONUNBUFFERED # a system call per line would be most of the work
readonly steps=${BASH_SOURCE[0]%/*}/kmers.py

exec 3>&1 # the steps report their progress there
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

python3 "$steps" simulate >"$tmp/reads"
python3 "$steps" count "$tmp/reads" >"$tmp/counts"
kmers=$(wc -l <"$tmp/counts")
sort -T "$tmp" -S 4M -k1,1nr -k2,2 <"$tmp/counts" | python3 "$steps" rank "$kmers" | gzip -n >"$1"
echo "wrote  $kmers ranks"
