#!/bin/sh
# Training over MPI, with tests/mpi.c and examples/train_mpi.c: as many processes as you like do what one does. Run from the
# top of the repository. MPICC builds, MPIRUN runs.
LC_ALL=C
export LC_ALL
mpicc=${MPICC:-mpicc} mpirun=${MPIRUN:-mpirun}
passed=0 failed=0
if ! echo '#include <mpi.h>' | "$mpicc" -E -x c - > /dev/null 2>&1 || ! command -v "$mpirun" > /dev/null; then
    echo "SKIPPED: training over MPI: there is no $mpicc with mpi.h, or no $mpirun (Debian: libopenmpi-dev, openmpi-bin)"
    echo "mpi: 0 passed, 0 failed, 1 skipped"
    exit 0
fi
# Open MPI refuses to run as root and on fewer cores than ranks unless told otherwise (the last for its version 5)
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT

result() {      # result CODE WHAT [FILE]: counts; shows the end of FILE for a failure
    if [ "$1" -eq 0 ]; then passed=$((passed + 1)); return; fi
    failed=$((failed + 1))
    echo "FAILED: $2"
    if [ -n "$3" ]; then tail -n 8 "$3"; fi
}
build() {       # build SOURCE: as $t/NAME
    name=$(basename "$1" .c)
    "$mpicc" -std=c99 -Wall -Wextra -Wpedantic -Wshadow -Werror -O1 -o "$t/$name" "$1" -lm -lpthread > "$t/said" 2>&1
    result $? "$1 does not compile" "$t/said"
}
run() {         # run OUT RANKS PROGRAM ARGUMENTS: $t/OUT is what it printed; a run that hangs is ended
    out=$1 ranks=$2 program=$3; shift 3
    timeout 120 "$mpirun" -n "$ranks" "$t/$program" "$@" > "$t/$out" 2> "$t/$out.err"
}
good() { run "$@"; result $? "$*: exit code not 0: $(tail -n 3 "$t/$1.err")" "$t/$1"; }
same() { cmp -s "$t/$1" "$t/$2"; result $? "$1 and $2 differ" "$t/$2"; }
# near A B: as many steps, of equal targets and tokens; losses within 1e-5 of each other, gradient norms within 1e-4: single
# precision sums, in another order
near() {
    grep '^[0-9]' "$t/$1" > "$t/have"
    grep '^[0-9]' "$t/$2" | paste -d ' ' "$t/have" - | awk '
        function far(a, b, most) { return (a > b ? a - b : b - a) > most * b }
        NF != 10 || $1 != $6 || $4 != $9 || $5 != $10 || far($2, $7, 1e-5) || far($3, $8, 1e-4) { bad = 1 }
        END { exit bad || NR == 0 }'
    result $? "$1 is not what $2 is" "$t/$1"
}

build tests/mpi.c
good alone 1 mpi 12 1 alone
good one 1 mpi 12 1 ranks
same alone one
for n in 2 3 4; do
    good "ranks$n" $n mpi $((12 / n)) 1 ranks
    near "ranks$n" alone
    [ "$(grep -c '^parameters' "$t/ranks$n")" -eq 1 ]
    result $? "$n ranks: parameters differ" "$t/ranks$n"
done
awk 'NR == 1 { first = $2 } /^[0-9]/ { last = $2 } END { exit !(last < 0.9 * first) }' "$t/ranks3"
result $? "20 steps do not lower the loss" "$t/ranks3"
good again 2 mpi 6 1 ranks
same ranks2 again

good straight 2 mpi 3 2 ranks
good first 2 mpi 3 2 save "$t/state"
good second 2 mpi 3 2 load "$t/state"
{ grep '^[0-9]' "$t/first"; cat "$t/second"; } > "$t/both"
same straight both
for n in 1 4; do
    good "on$n" $n mpi 3 $((4 / n)) load "$t/state"
    near "on$n" second
done
! run refused 3 mpi 3 1 load "$t/state" && grep -q "accumulate times n_ranks was 4, now it is 3" "$t/refused"
result $? "a state of 2 ranks x 2 batches on 3 ranks x 1" "$t/refused"
! run bad 3 mpi 4 1 bad && [ "$(grep -c 'rank [0-2]: ids\[[0-9]*\]=40' "$t/bad")" -eq 1 ] &&
    [ "$(grep -c 'rank [0-2]: step [0-9]*: 2 of n_ranks=3 ranks' "$t/bad")" -eq 2 ]
result $? "a rank that fails" "$t/bad"
! run other 2 mpi 6 1 other && [ "$(grep -c 'rank [01]: step 1: other ranks have other documents' "$t/other")" -eq 2 ]
result $? "other documents on a rank" "$t/other"

build examples/train_mpi.c
for n in 1 2 3; do
    good "train$n" $n train_mpi - 20
    sed -n 's/^step *\([0-9]*\)  loss \([0-9.]*\)$/\1 \2/p' "$t/train$n" > "$t/losses$n"
    paste -d ' ' "$t/losses$n" "$t/losses1" | awk '{ d = $2 - $4; if (NF != 4 || d * d > 1e-10 * $4 * $4) bad = 1 } END { exit bad || NR != 2 }'
    result $? "train_mpi on $n: not the losses of one" "$t/train$n"
done
for steps in abc 3x -3 0; do
    ! run steps 1 train_mpi - $steps && grep -q "STEPS, 1 to 1000000" "$t/steps.err"
    result $? "train_mpi - $steps" "$t/steps.err"
done
for text in "$t" "$t/nothing"; do
    ! run text 1 train_mpi "$text" 1 && grep -q "TEXT cannot be read" "$t/text.err"
    result $? "train_mpi $text" "$t/text.err"
done
! run five 5 train_mpi - 1 && grep -q "does not divide 12" "$t/five.err"
result $? "train_mpi on 5 processes" "$t/five.err"

echo "mpi: $passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
