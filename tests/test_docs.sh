#!/bin/sh
# What the documentation says holds: the header compiles without a warning wherever it says so, each example builds with the
# line in its own top comment, each snippet and command of the README and of the header's manual compiles or exists.
# Run from the top of the repository. FULL=1: every compiler with every switch, optimised; else most are only read.
LC_ALL=C
export LC_ALL
unset MAKEFLAGS MFLAGS MAKELEVEL                            # the make that runs this is not asked
top=$(pwd)
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
passed=0 failed=0 skipped=0

result() {      # result CODE WHAT [FILE]: counts; shows the beginning of FILE for a failure
    if [ "$1" -eq 0 ]; then passed=$((passed + 1)); return; fi
    failed=$((failed + 1))
    echo "FAILED: $2"
    if [ -n "$3" ]; then head -n 8 "$3"; fi
}
skip() { skipped=$((skipped + 1)); echo "SKIPPED: $1"; }

# ---- the header alone

warn="-Wall -Wextra -Wpedantic -Wshadow -Werror"
printf '#define _POSIX_C_SOURCE 200809L\n#define ATTNVAR_IMPLEMENTATION\n#include "attnvar.h"\n' > "$t/posix.c"
printf '#define ATTNVAR_IMPLEMENTATION\n#include "attnvar.h"\n#include "attnvar.h"\n' > "$t/implementation.c"
printf '#include "attnvar.h"\n#include "attnvar.h"\nint one_more(void);\nint one_more(void) { return ATV_ISA_COUNT; }\n' > "$t/declarations.c"
for f in posix implementation declarations; do cp "$t/$f.c" "$t/$f.cc"; done
all="-DATV_NO_STDIO -DATV_NO_THREADS -DATV_NO_SIMD -DATV_NO_TRAIN -DATV_STATIC"

# Compilations run JOBS at a time: job.N is the command, job.N.said what it said, job.N.code its exit code.
jobs=0
job() {         # job WHAT COMMAND
    jobs=$((jobs + 1))
    echo "$1" > "$t/job.$jobs.what"
    echo "$2" > "$t/job.$jobs"
}
run_jobs() {
    i=0
    while [ $i -lt $jobs ]; do i=$((i + 1)); echo "$t/job.$i"; done |
        xargs -P "${JOBS:-2}" -n 1 sh -c 'sh "$0" > "$0.said" 2>&1; echo $? > "$0.code"'
    i=0
    while [ $i -lt $jobs ]; do
        i=$((i + 1))
        result "$(cat "$t/job.$i.code")" "$(cat "$t/job.$i.what")" "$t/job.$i.said"
    done
    jobs=0
}
compiles() {    # compiles COMPILER ARGUMENTS: without a warning
    job "$*" "$* -I'$top' $warn $how"
}
how=-fsyntax-only optimise=-O0 quick=-DATV_NO_SIMD
[ -n "$FULL" ] && how="-c -o /dev/null" optimise=-O2 quick=
first=1
for cc in gcc clang; do
    if ! command -v $cc > /dev/null; then skip "$cc: not installed"; continue; fi
    for f in posix declarations; do compiles $cc -std=c99 $optimise "$t/$f.c"; done
    compiles $cc -std=c99 -O0 $all "$t/implementation.c"
    if [ -n "$first$FULL" ]; then                           # each switch alone: with one compiler, or FULL with all
        for switch in $all -DATVI_DOUBLE; do compiles $cc -std=c99 -O0 $switch "$t/implementation.c"; done
    fi
    [ -n "$FULL" ] && for std in c11 c17 gnu99; do compiles $cc -std=$std $optimise "$t/posix.c"; done
    first=
done
for cc in g++ clang++; do
    if ! command -v $cc > /dev/null; then skip "$cc: not installed"; continue; fi
    for f in posix declarations; do compiles $cc -std=c++11 $optimise "$t/$f.cc"; done
    if [ -n "$FULL" ]; then
        for switch in $all "$all"; do compiles $cc -std=c++11 -O0 $switch "$t/implementation.cc"; done
        compiles $cc -std=c++20 $optimise "$t/posix.cc"
    fi
done
run_jobs

# ---- two files, of which one has the implementation; also C++ beside C

cc=${CC:-cc}
cat > "$t/user.c" << 'END'
#include "attnvar.h"
int main(void) {
    atv_ctx *ctx;
    int ok = atv_ctx_create(0, &ctx) == ATV_OK;
    if (ok) atv_ctx_destroy(ctx);
    return !ok;
}
END
cp "$t/user.c" "$t/user.cc"
$cc -O0 -I"$top" -o "$t/two" "$t/user.c" "$t/posix.c" -lm -lpthread > "$t/said" 2>&1 && "$t/two"
result $? "two files, one with the implementation" "$t/said"
if command -v c++ > /dev/null; then
    $cc -O0 -I"$top" -c -o "$t/posix.o" "$t/posix.c" && c++ -std=c++11 -I"$top" -o "$t/mixed" "$t/user.cc" "$t/posix.o" -lm -lpthread > "$t/said" 2>&1 && "$t/mixed"
    result $? "a C++ program beside the implementation in C" "$t/said"
else skip "a C++ program: no c++"; fi
$cc -O0 $all -I"$top" -o "$t/none" -x c - -lm << 'END' > "$t/said" 2>&1 && "$t/none"
#define ATTNVAR_IMPLEMENTATION
#include "attnvar.h"
int main(void) {
    atv_ctx *ctx;
    return atv_ctx_create(0, &ctx) != ATV_OK || atv_ctx_info(ctx)->n_threads != 1 || (atv_ctx_destroy(ctx), 0);
}
END
result $? "a program with every switch, without pthreads" "$t/said"

# ---- the licence at the end of the header

awk '$0 == "/*" { text = ""; open = 1; next } $0 == "*/" { open = 0; next } open { text = text $0 "\n" } END { printf "%s", text }' attnvar.h > "$t/licence"
cmp "$t/licence" LICENSE > "$t/said" 2>&1
result $? "the end of attnvar.h is not LICENSE" "$t/said"
[ -z "$(tail -n 1 attnvar.h | grep -v '^\*/$')" ]
result $? "attnvar.h goes on after its licence"
LC_ALL=C grep -n '[^ -~]' attnvar.h | grep -v "$(printf '\t')" > "$t/said"
[ ! -s "$t/said" ]
result $? "attnvar.h has other characters than ASCII" "$t/said"

# ---- each example by its own line, unoptimised, in a copy

mkdir "$t/copy" "$t/copy/build"
cp -r attnvar.h examples tools "$t/copy"
for f in examples/*.c tools/attnvar.c; do
    line=$(sed -n '1,25s/^.*[ *]\(\(mpi\)\{0,1\}cc .*\.c.* -lm -lpthread\).*$/\1/p' "$f" | head -n 1)
    if [ -z "$line" ]; then result 1 "$f: no cc line in its top comment"; continue; fi
    case $line in *"$f"*) ;; *) result 1 "$f: its cc line builds something else: $line" ;; esac
    builder=$cc
    case $line in mpicc*)
        builder=${MPICC:-mpicc}
        if ! echo '#include <mpi.h>' | $builder -E -x c - > /dev/null 2>&1; then skip "$f: there is no $builder with mpi.h"; continue; fi
    esac
    job "$f: $line" "cd '$t/copy' && $builder -std=c99 $quick $warn ${line#*cc } -O0"
done
run_jobs

# ---- what the examples and make say to --help and to nonsense

says() {        # says CODE PIECE COMMAND: exit code and a piece of what it says, on the stream that goes with the code
    code=$1 piece=$2; shift 2
    (cd "$t/copy" && "$@") > "$t/said.1" 2> "$t/said.2"
    [ $? -eq "$code" ] && grep -qF -- "$piece" "$t/said.$([ "$code" -eq 0 ] && echo 1 || echo 2)"
    result $? "$*: exit code not $code, or no '$piece'" "$t/said.2"
}
for q in rq1_1 rq1_2 rq2 rq3; do
    says 0 "$q: " build/$q --help
    for variable in SCALE=default DATA TOKENIZER PAIRS GLUE SEEDS=3 OUT=out THREADS=0 ISA=auto WORK STALE=120; do
        grep "^  $variable  " "$t/said.1"
    done > "$t/said"
    [ "$(wc -l < "$t/said")" -eq 11 ]
    result $? "$q --help lacks settings" "$t/said"
    says 2 "'5' is no argument" build/$q 5
done
for p in groups heatmaps report; do says 0 "usage: $p [" build/$p --help; done
says 1 "--sentence: no option" build/heatmaps --sentence
says 1 "--three is neither H/G nor a map" build/groups --three
says 2 "'--out'" build/report --out
for steps in abc 3x -3 0 4294967297; do says 1 "a number of steps, 1 to 1000000" build/train_loop $steps; done
[ "$(wc -l < examples/train_loop.c)" -lt 100 ] && [ "$(wc -l < examples/train_mpi.c)" -lt 120 ]
result $? "train_loop.c has not under 100 lines, or train_mpi.c not under 120"
for jobs in 0 abc -1 1.5 4x; do
    says 2 "JOBS=$jobs: must be 1 to 1000, the number" make -f "$top/Makefile" -n reproduce JOBS=$jobs
done
for threads in abc -1 1025; do
    says 2 "THREADS=$threads: must be 0 to 1024, the" make -f "$top/Makefile" -n reproduce THREADS=$threads
done
worker=$(make -n reproduce JOBS=3 2> "$t/said" | grep -c 'worker-3')
one=$(make -n reproduce JOBS= THREADS= 2>> "$t/said" | grep -c 'worker-2')
[ "$worker" -ge 1 ] && [ "$one" -eq 0 ] && [ ! -s "$t/said" ]
result $? "make reproduce JOBS=3, or JOBS= for the default" "$t/said"

# ---- snippets and commands

fragment() {    # fragment NAME FILE: a piece of C, which stands in a function, or for itself
    {
        printf '#define _POSIX_C_SOURCE 200809L\n#include "attnvar.h"\n#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n'
        printf 'int print_token(void *user, int prompt, int32_t token, float logprob);\nint fragment(void);\nint fragment(void) {\n'
        cat "$2"
        printf '    return 0;\n}\n'
    } > "$t/fragment.c"
    $cc -std=c99 -I"$top" -fsyntax-only "$t/fragment.c" > "$t/said" 2>&1 ||
        { printf '#include "attnvar.h"\n'; cat "$2"; } | $cc -std=c99 -I"$top" -fsyntax-only -x c - > "$t/said2" 2>&1
    result $? "$1 does not compile" "$t/said"
}
sed -n '/QUICK START/,/and attention alone/p' attnvar.h | sed '1d;$d' > "$t/quick"
[ -s "$t/quick" ]
result $? "attnvar.h: no quick start"
fragment "the quick start in attnvar.h" "$t/quick"

command_of() {  # command_of LINE: is it what it says?
    case $1 in
    "make "*|make)
        make -n $(echo "$1" | sed 's/^make//; s/#.*//; s/\$[A-Z_]*/4/g') > "$t/said" 2>&1
        result $? "README: $1" "$t/said" ;;
    "cc "*)
        line=$(echo "$1" | sed 's/#.*//; s/&&.*//')
        (cd "$t/copy" && { [ -z "$program" ] || cp "$program" "$(echo "$line" | grep -o '[a-z_0-9/]*\.c' | head -n 1)"; } 2> /dev/null
         sh -c "$cc $quick ${line#cc } -O0") > "$t/said" 2>&1
        result $? "README: $1" "$t/said" ;;
    "attnvar "*|"build/attnvar "*)
        set -- $(echo "$1" | sed 's/[|#>].*//')
        name=$2
        "$top/build/attnvar" "$name" --help > "$t/help" 2>&1 || [ "${name#-}" != "$name" ]
        result $? "README: attnvar $name: no such command"
        for word in "$@"; do
            case $word in
            --help|--version) ;;
            --*) grep -q -- "$word" "$t/help"; result $? "README: attnvar $name has no $word" ;;
            esac
        done ;;
    "build/examples/"*|"build/"*|"./"*)
        name=$(echo "$1" | sed 's/ .*//; s/.*\///')
        [ -f "examples/$name.c" ] || [ -f "tools/$name.c" ] || [ -n "$(ls examples/"$name"*.c 2> /dev/null)" ] || [ -x "$t/copy/$name" ]
        result $? "README: $1: there is no $name" ;;
    esac
}
if [ -f README.md ]; then
    mkdir "$t/blocks"
    awk -v dir="$t/blocks" '/^```/ { if (open) { open = 0; close(file) } else { open = 1; n++; kind = substr($0, 4); if (kind == "") kind = "text";
                                     file = sprintf("%s/%03d.%s", dir, n, kind) } next }
                                     open { print > file; next } /^    [^ ]/ { file = sprintf("%s/%03d.indented", dir, ++n); print > file; close(file) }' README.md
    program=
    for block in "$t"/blocks/*; do
        [ -f "$block" ] || continue
        case $block in
        *.c|*.h)
            if grep -q 'main(' "$block"; then
                program=$block
                $cc -std=c99 -Wall -Wextra -Wpedantic -O0 $quick -I"$top" -o "$t/program" "$block" -lm -lpthread > "$t/said" 2>&1
                result $? "README: a program (block ${block##*/})" "$t/said"
                (cd "$t/copy" && timeout 60 "$t/program") > "$t/said" 2>&1 < /dev/null
                result $? "README: running the program of block ${block##*/}" "$t/said"
            else fragment "README: block ${block##*/}" "$block"; fi ;;
        *.sh|*.console|*.text|*.bash|*.indented)
            sed -n 's/^ *\(\$ *\)\{0,1\}//; /^\(make\|cc\|attnvar\|build\/[a-z_0-9\/]*\|\.\/[a-z_0-9]*\)\( \|$\)/p' "$block" > "$t/commands"
            while IFS= read -r line; do command_of "$line"; done < "$t/commands" ;;
        esac
    done
    # files that it names by a link are there
    grep -o '](\([^)#]*\)' README.md | sed 's/^](//' | grep -v '^[a-z]*:' | sort -u > "$t/links"
    while IFS= read -r link; do [ -e "$link" ]; result $? "README: it points at $link, which is not there"; done < "$t/links"
    grep -q '^ *\$* *make test' README.md
    result $? "README: it does not show make test"
    grep -q '^ *\$* *make reproduce' README.md
    result $? "README: it does not show make reproduce"
else skip "README.md: there is none"; fi

echo "docs: $passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
