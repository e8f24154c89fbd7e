#!/bin/sh
# tests/run.sh NAME=COMMAND ..: runs each command from the top of the repository, one after the other, also after a failure,
# and sums up their last lines, "NAME: N passed, N failed, N skipped". A command that ends without one counts as a failure.
passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if [ -n "$ATTNVAR_SHARED" ]; then
    if [ -d "$ATTNVAR_SHARED" ]; then echo "ATTNVAR_SHARED=$ATTNVAR_SHARED: the larger fixtures are used too"
    else echo "FAILED: ATTNVAR_SHARED=$ATTNVAR_SHARED is no directory"; failed=1; fi
else
    echo "NOTE: ATTNVAR_SHARED is not set: the golden values in tests/golden are used, the larger fixtures are not"
fi
for test in "$@"; do
    name=${test%%=*} command=${test#*=}
    echo "-- $name"
    # its output as it comes, kept as well; the exit code through a file, since a pipe has the last one's
    { sh -c "$command" 2>&1; echo $? > "$log.code"; } | tee "$log"
    code=$(cat "$log.code")
    rm -f "$log.code"
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
