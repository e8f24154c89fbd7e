#!/bin/sh
# A sweep by several processes: tests/test_sweep.sh build/examples/rq3_combined
# Three workers of which one is killed every now and then, and a worker that is suspended until another has its run: what they
# leave must be, byte for byte, what one process leaves that nobody disturbs, and no run was ever in two hands. Minutes.
LC_ALL=C
export LC_ALL
bin=$(cd "$(dirname "${1:?the program to test}")" && pwd)/$(basename "$1")
t=$(mktemp -d)
workers=
trap 'for p in $workers; do kill -9 $p 2> /dev/null; done; rm -rf "$t"' EXIT
passed=0 failed=0 runs=12 pieces=36         # each run is trained, judged by pairs, and fine-tuned on a task
kills=${KILLS:-20}

result() { if [ "$1" -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAIL $2"; fi; }
worker() {      # worker OUT STALE LOG: in the background; its process is $!
    OUT=$t/$1 STALE=$2 THREADS=1 WORK=train SCALE=smoke DATA='' PAIRS="$pairs" GLUE="$t" TOKENIZER='' ISA='' \
        "$bin" >> "$t/$3" 2>&1 &
    workers="$workers $!"
}
for part in train validation; do
    for i in $(seq 24); do echo "{\"sentence\": \"The $part cat saw $i dogs.\", \"label\": $((i % 2))}"; done > "$t/parity.$part.json"
done
mkdir "$t/pairs"
for i in $(seq 60); do
    echo "{\"sentence_good\": \"The $i dogs were kind.\", \"sentence_bad\": \"The $i dogs was kind.\"}"
done > "$t/pairs/agreement.json"
pairs=
results() { find "$t/$1/runs" -name result.json -o -name 'glue-parity-*.json' -o -name 'pairs-*.json' | wc -l; }
random() { od -An -N2 -tu2 /dev/urandom | tr -d ' '; }
caught() {      # caught OUT PID FILE: the worker PID is suspended amid a run that has FILE; 1: it never was in one
    for try in $(seq 1000); do
        kill -STOP "$2" 2> /dev/null || return 1
        for claim in "$t/$1"/runs/*/claim.?; do
            dir=${claim%/*}
            [ -f "$dir/$3" ] && [ ! -f "$dir/result.json" ] && [ "$(cut -d ' ' -f 2 "$claim")" = "$2" ] && return 0
        done
        kill -CONT "$2"
        sleep 0.02
    done
    return 1
}

# What must hold of a sweep that is done: held WHAT OUT MOST_CLAIMS
held() {
    for dir in "$t"/alone/runs/*; do
        dir2=$t/$2/runs/$(basename "$dir")
        for file in result.json model.safetensors config.json curve.csv settings.json tokenizer.json \
            $(cd "$dir" && echo glue-parity-*.json pairs-*.json); do
            cmp -s "$dir/$file" "$dir2/$file"
            result $? "$1: $dir2/$file is not what one process writes"
        done
    done
    [ "$(results "$2")" -eq $pieces ] && [ "$(find "$t/$2/runs" -mindepth 1 -maxdepth 1 | wc -l)" -eq $runs ]
    result $? "$1: not $pieces results of $runs runs"
    n=0
    for claim in "$t/$2"/runs/*/*claim.*; do
        case $claim in *.tmp) continue ;; esac              # who was killed was asking the time
        n=$((n + 1))
        next=${claim%.*}.$((${claim##*.} + 1))
        [ "$(wc -l < "$claim")" -eq 1 ] || { [ ! -s "$claim" ] && [ -f "$next" ]; }     # killed before it wrote
        result $? "$1: $claim was had by more than one: $(cat "$claim")"
        if [ -s "$next" ]; then
            [ "$(stat -c %Y "$claim")" -le "$(cut -d ' ' -f 3 "$next")" ]
            result $? "$1: $claim was still kept when $next began"
        fi
    done
    [ $n -le "$3" ]
    result $? "$1: $n claims for $pieces pieces of work, at most $3 can be"
    echo "$1: $pieces pieces of work, $n claims"
}

worker alone 120 alone.log
wait $!
result $? "one process: $(tail -n 1 "$t/alone.log")"
[ "$(results alone)" -eq $pieces ]
result $? "one process: not $pieces results"

# ---- half a task

mkdir "$t/half"
for name in parity.train.json parity.train.jsonl; do
    cp "$t/parity.train.json" "$t/half/$name"
    OUT=$t/half.out WORK=plan SCALE=smoke DATA='' PAIRS='' GLUE="$t/half" TOKENIZER='' "$bin" > "$t/half.log" 2>&1
    [ $? -eq 1 ] && grep -qF "$t/half/parity.validation.json: neither it nor parity.validation.jsonl is there" "$t/half.log"
    result $? "no validation file beside $name: $(tail -n 1 "$t/half.log")"
    rm "$t/half/$name"
done

# ---- what the owners before and after left: only a sleeper meets the latter

cp -r "$t/alone" "$t/left"
dir=$(dirname "$(find "$t/left/runs" -name result.json | sort | head -n 1)")
rm "$dir/result.json"
touch "$dir/result.json.1.tmp" "$dir/result.json.3.tmp" "$dir/claim.12345678.9.tmp"
judged=$(find "$t/left/runs" -name 'pairs-*.json' | sort | tail -n 1)
rm "$judged"
touch "$judged.1.tmp" "$judged.3.tmp" "${judged%.json}.claim.12345678.9.tmp"
worker left 120 left.log
wait $!
result $? "beside what others left: $(tail -n 1 "$t/left.log")"
[ "$(find "$t/left/runs" -name '*.tmp' | sort)" = "$(printf '%s\n' "$dir/result.json.3.tmp" "$judged.3.tmp" | sort)" ]
result $? "temporary files: $(find "$t/left/runs" -name '*.tmp') of generation 3 and no other should be left to 2"
held "left by others" left $((pieces + 2))

# ---- no room

(trap '' XFSZ; ulimit -f 200; worker full 120 full.log; wait $!)
tail -n 1 "$t/full.log" | grep -q 'trainer.safetensors: cannot be written: File too large'
result $? "no room for a checkpoint: $(tail -n 1 "$t/full.log")"
(trap '' XFSZ; ulimit -f 1; OUT=$t/full WORK=train SCALE=smoke DATA='' PAIRS='' GLUE='' TOKENIZER='' "$bin" 2>&1) |
    tail -n 1 > "$t/full.log"
grep -q 'settings.json: cannot be written: File too large' "$t/full.log"
result $? "no room for settings: $(cat "$t/full.log")"

# ---- killed

done=0
for i in 1 2 3; do worker killed 120 killed.$i.log; eval "pid$i=$!"; done
caught killed "$pid1" settings.json                         # the first one surely trains
result $? "no worker was killed amid a run"
while [ $done -lt "$kills" ]; do
    i=1
    [ $done -eq 0 ] || { sleep "0.$(($(random) % 5))"; i=$(($(random) % 3 + 1)); }
    eval "pid=\$pid$i"
    kill -9 "$pid" 2> /dev/null && done=$((done + 1))
    wait "$pid" 2> /dev/null
    [ "$(results killed)" -eq $pieces ] && break
    worker killed 120 killed.$i.log
    eval "pid$i=$!"
done
wait
sleep 2                                                     # until a claim that is still empty counts as dead
worker killed 1 killed.4.log                                # takes up what the last one killed had
wait $!
result $? "the last worker: $(tail -n 1 "$t/killed.4.log")"
[ -n "$(find "$t/killed/runs" -name claim.2)" ]
result $? "killed: no run was taken over"
held "killed $done times" killed $((pieces + done))

# ---- suspended until its run is another's

for life in 1 2 3 4 5; do                                    # until it is stopped between its first checkpoint and its end
    rm -rf "$t/slept"
    worker slept 1 slept.1.log
    sleeper=$!
    caught slept $sleeper trainer.safetensors && break
    wait $sleeper
done
worker slept 1 slept.2.log
other=$!
for i in $(seq 3000); do
    [ -n "$(find "$t/slept/runs" -name claim.2)" ] && break
    sleep 0.1
done
kill -CONT $sleeper
wait $sleeper
result $? "the sleeper: $(tail -n 1 "$t/slept.1.log")"
wait $other
result $? "beside the sleeper: $(tail -n 1 "$t/slept.2.log")"
grep -q 'slept too long' "$t/slept.1.log"
result $? "the sleeper did not notice that its run was another's"
grep -q 'from step [1-9]' "$t/slept.2.log"
result $? "the sleeper's run was not gone on with from its checkpoint"
held "suspended" slept $((pieces + 1))

# ---- other pairs, by several

ls -li "$t"/slept/runs/*/model.safetensors > "$t/before"
pairs=$t/pairs pieces=48
worker alone 120 alone.log
wait $!
result $? "one process, other pairs: $(tail -n 1 "$t/alone.log")"
for i in 1 2 3; do worker slept 120 slept.$i.log; done
wait
held "other pairs" slept $((pieces + 1))
ls -li "$t"/slept/runs/*/model.safetensors | cmp -s - "$t/before"
result $? "other pairs: models were written anew"

workers=
echo "sweep: $passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
