#!/bin/sh
# tests/run.sh NAME=COMMAND ..: runs each command from the top of the repository, JOBS (2) at a time, also after a failure,
# shows them in this order, and sums up their last lines, "NAME: N passed, N failed, N skipped". A command that ends without
# one counts as a failure.
passed=0 failed=0 skipped=0
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
if [ -n "$ATTNVAR_SHARED" ]; then
    if [ -d "$ATTNVAR_SHARED" ]; then echo "ATTNVAR_SHARED=$ATTNVAR_SHARED: the larger fixtures are used too"
    else echo "FAILED: ATTNVAR_SHARED=$ATTNVAR_SHARED is no directory"; failed=1; fi
else
    echo "NOTE: ATTNVAR_SHARED is not set: the golden values in tests/golden are used, the larger fixtures are not"
fi
work() {        # work NAME=COMMAND ..: those that nobody has begun
    i=0
    for test in "$@"; do
        i=$((i + 1))
        mkdir "$dir/$i" 2> /dev/null || continue
        sh -c "${test#*=}" > "$dir/$i/log" 2>&1
        echo $? > "$dir/$i/ended"
        mv "$dir/$i/ended" "$dir/$i/code"
    done
}
pids=
for job in $(seq "${JOBS:-2}"); do work "$@" & pids="$pids $!"; done
trap 'kill $pids; exit 1' INT TERM
i=0
for test in "$@"; do
    name=${test%%=*} i=$((i + 1)) log=$dir/$i/log
    while [ ! -e "$dir/$i/code" ]; do sleep 0.1; done
    code=$(cat "$dir/$i/code")
    echo "-- $name"
    cat "$log"
    counts=$(tail -n 1 "$log" | sed -n 's/^[a-z_0-9]*: \([0-9][0-9]*\) passed, \([0-9][0-9]*\) failed.*/\1 \2/p')
    skips=$(tail -n 1 "$log" | sed -n 's/.* failed, \([0-9][0-9]*\) skipped$/\1/p')
    if [ -z "$counts" ]; then
        echo "FAILED: $name ended with exit code $code and no count"
        failed=$((failed + 1))
        continue
    fi
    passed=$((passed + ${counts% *}))
    failed=$((failed + ${counts#* }))
    skipped=$((skipped + ${skips:-0}))
    if [ "$code" -ne 0 ] && [ "${counts#* }" -eq 0 ]; then
        echo "FAILED: $name counts no failure, but its exit code is $code"
        failed=$((failed + 1))
    fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
