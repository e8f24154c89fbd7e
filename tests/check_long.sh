#!/bin/sh
# The long checks, behind `make check-long`: sanitizers, other compilers and options and their bits, the header's tests with
# the user's own flags, on other processors and with AVX-512 (both emulated), exp and GELU over all floats, valgrind, training
# over MPI, the report in a browser, fuzzers, workers of a sweep that are killed, and the generated files made anew. What a
# machine lacks is said and left out.
# PARTS="sanitize fuzz" runs only those; FUZZ_SECONDS=20.
LC_ALL=C
export LC_ALL
parts="sanitize threads memory clang options flags processors avx512 floats"
parts=${PARTS:-"$parts valgrind docs mpi report fuzz sweep golden unicode"}
jobs=${JOBS:-2}
passed=0 failed=0 skipped=0
mkdir -p build

has() { command -v "$1" > /dev/null 2>&1; }
wanted() { case " $parts " in *" $1 "*) echo "== $1"; return 0 ;; esac; return 1; }
result() { if [ "$1" -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $2"; fi; }
works() {       # works COMPILER OPTION ..: builds a program that runs
    echo 'int main(void) { return 0; }' > build/nothing.c
    "$@" -o build/nothing build/nothing.c 2> /dev/null && build/nothing
}
skip() { skipped=$((skipped + 1)); echo "SKIPPED: $1"; }

# tests DIRECTORY COMPILER_AND_OPTIONS NAME ..: builds these tests there, runs them (as `$run TEST $arguments`), two at a time,
# and shows what fails; one that hangs is ended
run= arguments= ar=ar settings=
tests() {
    dir=$1 how=$2; shift 2
    rm -rf "$dir"
    mkdir -p "$dir"
    make -s -k -j"$jobs" T="$dir" CC="$how" CFLAGS= $settings AR="$ar" $(for name in "$@"; do echo "$dir/$name"; done) \
        > "$dir/log" 2>&1 || tail -n 25 "$dir/log"
    for name in "$@"; do echo "$name"; done | xargs -P "$jobs" -I% \
        sh -c "timeout 1200 $run $dir/% $arguments > $dir/%.log 2>&1; echo \$? > $dir/%.code"
    for name in "$@"; do
        code=$(cat "$dir/$name.code")
        grep -v '^SKIPPED' "$dir/$name.log" | tail -n "$([ "$code" -eq 0 ] && echo 1 || echo 25)"
        result "$code" "$name built with: $how"
    done
}
header="test_core test_kernels test_attention test_grad test_model test_decode test_train test_checkpoint test_tokenizer"
all=$(ls tests/test_*.c tests/fuzz_*.c | sed 's/^tests\///; s/\.c$//')

if wanted sanitize; then
    UBSAN_OPTIONS=print_stacktrace=1 ASAN_OPTIONS=detect_leaks=1 \
        tests build/sanitize "${CC:-cc} -g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all" $all
fi

if wanted threads; then
    if works ${CC:-cc} -fsanitize=thread; then
        tests build/threads "${CC:-cc} -g -O1 -fsanitize=thread" test_core test_decode
    else skip "the thread sanitizer does not work here"; fi
fi

if wanted memory; then                                      # bytes that nobody wrote
    if works clang -fsanitize=memory; then
        tests build/memory "clang -g -O1 -fsanitize=memory" test_attention test_eval test_model test_decode test_train
    else skip "the memory sanitizer does not work here"; fi
fi

if wanted clang; then
    if has clang; then tests build/clang "clang -O2" $all
    else skip "clang: not installed"; fi
fi

if wanted options; then
    tests build/native "${CC:-cc} -O3 -march=native" test_attention test_grad test_decode
    tests build/plain "${CC:-cc} -O2 -DATV_NO_SIMD -DATV_NO_THREADS" test_attention test_model test_decode test_train
    # the same bits from every compiler, standard and optimization
    make -s build/attnvar
    rm -rf build/bits
    mkdir -p build/bits
    cp build/attnvar build/bits/0
    n=0
    for how in "${CC:-cc} -O2" "${CC:-cc} -O3" "${CC:-cc} -Os" "clang -O2"; do
        has "${how%% *}" || { skip "the bits of $how: not installed"; continue; }
        n=$((n + 1))
        $how -o build/bits/$n tools/attnvar.c -lm -lpthread
        for isa in scalar avx2 avx512 neon; do
            for i in 0 $n; do
                [ -d build/bits/$i.$isa ] || build/bits/$i train --data tests/golden/tokenizer/text.txt --steps 20 --hidden 48 \
                    --heads 4 --vocab 300 --variant gqa --group-proportion .75 --batch 4 --isa $isa --out build/bits/$i.$isa \
                    > build/bits/log 2>&1
            done
            grep -q 'is not what this machine has' build/bits/log && continue
            cmp build/bits/0.$isa/model.safetensors build/bits/$n.$isa/model.safetensors
            result $? "the bits of $how, $isa"
        done
    done
fi

if wanted flags; then
    settings=QUICK=                                         # all of it with these flags
    for flags in -O3 -Os "-O2 -ffast-math"; do
        tests build/flags "${CC:-cc} $flags" $header
    done
    if has clang; then tests build/flags "clang -O2 -ffast-math" $header
    else skip "clang -ffast-math: not installed"; fi
    settings=
fi

if wanted processors; then                                  # NEON; 32 bits; big-endian, as the files are not
    for machine in aarch64 i686 s390x; do
        compiler=$machine-linux-gnu-gcc ar=$machine-linux-gnu-ar run=qemu-$machine
        case $machine in
        aarch64) names="test_attention test_grad test_model test_decode" ;;
        i686) names="test_core test_decode test_checkpoint" run= ;;
        s390x) names="test_core test_decode test_checkpoint" ;;
        esac
        if has "$compiler" && { [ -z "$run" ] || has "$run"; }; then
            tests build/processors "$compiler -O2 -static" $names
            if [ $machine = aarch64 ]; then                 # over every so manyth float
                arguments=1000003
                tests build/processors "$compiler -O2 -static" test_kernels
                arguments=
            fi
        else skip "$compiler, $run: not installed"; fi
    done
    run= ar=ar
fi

if wanted avx512; then                                      # emulated, also where the processor has it
    { echo '#include <simde/x86/avx512.h>'
      echo 'int main(void) { return !__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"); }'; } > build/nothing.c
    if ${CC:-cc} -mavx2 -mfma -o build/nothing build/nothing.c 2> /dev/null && build/nothing; then
        rm -rf build/emulated
        mkdir -p build/emulated
        cp -R Makefile tests examples build/emulated/
        sed 's/"avx512f"/"avx2,fma"/; s/return .*bit_AVX512F.*;/return 1;/' attnvar.h > build/emulated/attnvar.h
        cd build/emulated
        tests build/tests "${CC:-cc} -O1 -mavx2 -mfma -D_DEFAULT_SOURCE= -include tests/emulate_avx512.h" test_kernels \
            test_attention test_model test_decode test_train
        ! grep 'avx512' build/tests/*.log
        result $? "AVX-512 was not emulated"
        cd ../..
    else skip "AVX-512 emulated: no SIMDe, or no AVX2"; fi
fi

if wanted floats; then
    arguments=1
    tests build/floats "${CC:-cc} -O2" test_kernels
    arguments=
fi

if wanted valgrind; then
    if has valgrind; then
        make -s build/tests/test_core build/tests/fuzz_safetensors
        for name in test_core fuzz_safetensors; do
            valgrind -q --error-exitcode=9 --leak-check=full build/tests/$name 2>&1 | tail -n 20
            valgrind -q --error-exitcode=9 --leak-check=full build/tests/$name > /dev/null 2>&1
            result $? "$name under valgrind"
        done
    else skip "valgrind: not installed"; fi
fi

if wanted docs; then
    make -s build/attnvar
    FULL=1 tests/test_docs.sh
    result $? "the documentation, with every compiler and switch"
fi

if wanted mpi; then
    tests/test_mpi.sh > build/mpi.log
    code=$?
    cat build/mpi.log
    if grep -q '^SKIPPED' build/mpi.log; then skipped=$((skipped + 1))
    else result $code "training over MPI"; fi
fi

if wanted report; then
    make -s build/examples/report
    dirs=; [ -s out/rq1_1.csv ] && dirs=out                 # what a study left is looked at as well
    BROWSER=1 tests/test_report.sh build/examples/report $dirs > build/report.log 2>&1
    code=$?
    cat build/report.log
    skipped=$((skipped + $(grep -c '^SKIPPED' build/report.log)))
    result $code "the report's judgement, and its page in a browser"
fi

if wanted fuzz; then
    echo 'int LLVMFuzzerTestOneInput(const unsigned char *d, unsigned long n) { (void)d; (void)n; return 0; }' > build/nothing.c
    if has clang && clang -fsanitize=fuzzer -o build/nothing build/nothing.c 2> /dev/null; then
        rm -rf build/fuzz
        mkdir -p build/fuzz
        names=$(for target in tests/fuzz_*.c; do basename "$target" .c; done)
        make -s -j"$jobs" T=build/fuzz CFLAGS= CC="clang -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
            -DATV_NO_SIMD -DATTNVAR_LIBFUZZER" $(for name in $names; do echo "build/fuzz/$name"; done)
        for name in $names; do
            mkdir -p "build/fuzz/$name.corpus"
            # beginnings: what of the golden files the target could read
            case $name in
            fuzz_config) cp tests/golden/*/config.json build/fuzz/$name.corpus/ 2> /dev/null ;;
            fuzz_json) cp tests/golden/mha/*.json build/fuzz/$name.corpus/ ;;
            fuzz_safetensors) cp tests/golden/train/linear.safetensors build/fuzz/$name.corpus/ ;;
            fuzz_tokenizer) { printf 0; cat tests/golden/tokenizer/tokenizer.json; } > build/fuzz/$name.corpus/json
                            { printf 2; head -c 500 tests/golden/tokenizer/text.txt; } > build/fuzz/$name.corpus/text ;;
            esac
        done
        for name in $names; do echo "$name"; done | xargs -P "$jobs" -I% sh -c "build/fuzz/% -max_total_time=${FUZZ_SECONDS:-20} -timeout=20 \
            -rss_limit_mb=2048 -max_len=20000 -print_final_stats=0 -artifact_prefix=build/fuzz/%. build/fuzz/%.corpus \
            > build/fuzz/%.log 2>&1; echo \$? > build/fuzz/%.code"
        for name in $names; do
            grep -E '^#[0-9]+.DONE' build/fuzz/$name.log || tail -n 25 build/fuzz/$name.log
            result "$(cat build/fuzz/$name.code)" "$name found something: build/fuzz/$name.*"
        done
    else skip "libFuzzer: no clang with it"; fi
fi

if wanted sweep; then
    make -s build/examples/rq3_combined
    tests/test_sweep.sh build/examples/rq3_combined
    result $? "a sweep whose workers are killed and suspended"
fi

if wanted golden; then
    python=                                                 # the first that has torch: the one in front may be another
    for p in python3 /usr/bin/python3; do
        if $p -c 'import torch, numpy' 2> /dev/null; then python=$p; break; fi
    done
    if [ -n "$python" ]; then
        names="mha gqa mqa kqv combined map cla ragged train attention"
        if $python -c 'import tokenizers' 2> /dev/null; then names="$names tokenizer"
        else skip "the golden tokenizer: $python has no tokenizers"; fi
        if $python -c 'import transformers' 2> /dev/null; then names="$names classifier"
        else skip "the golden classifier: $python has no transformers"; fi
        $python tests/make_golden.py --check $names
        result $? "tests/make_golden.py --check"
    else skip "the golden values: no python3 with torch and numpy"; fi
fi

if wanted unicode; then
    if has python3; then
        python3 tools/make_unicode.py --check attnvar.h
        result $? "tools/make_unicode.py --check"
    else skip "the Unicode tables: no python3"; fi
fi

echo "check-long: $passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
