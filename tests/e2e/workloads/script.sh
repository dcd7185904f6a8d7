#!/bin/bash
# What scripts do with their streams: /dev/stderr opened anew, appending, a background child, a FIFO,
# a here document, a coprocess, process substitution.
coproc squares { while read -r n; do echo $((n * n)); done; }
mkfifo pipe.fifo
(
    count=0
    while read -r line; do
        count=$((count + 1))
        echo "child got $line" >>child.txt
    done <pipe.fifo
    echo "child ends after $count" >>child.txt
) &
exec 7>pipe.fifo # after the coprocess, which would keep the FIFO open
for step in $(seq 0 39); do
    echo "step $step"
    echo "stderr $step" >/dev/stderr
    echo "out $step" >>out.txt
    echo "stdout again $step" >/dev/stdout
    echo "line $step" >&7
    echo "$step" >&"${squares[1]}"
    read -r square <&"${squares[0]}"
    echo "square $square" >>out.txt
    cat >>out.txt <<END
here $step
END
    [ -e "$HURRY" ] || sleep "$PACE"
done
exec 7>&-
wait %2
paste <(sort child.txt) <(sort -r child.txt) >both.txt
rm pipe.fifo
echo "ends" >/dev/stderr
