#!/bin/bash
# two_dirs.sh A B: even steps into A, odd ones into B.
: >"$2/odd.txt"
for step in $(seq 0 19); do
    if [ $((step % 2)) = 0 ]; then
        echo "$step" >>"$1/even.txt"
    else
        echo "$step" >>"$2/odd.txt"
    fi
    echo "step $step"
    [ -e "$HURRY" ] || sleep "$PACE"
done
