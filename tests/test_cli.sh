#!/bin/sh
# The command line from outside: tests/test_cli.sh build/attnvar
# Prints a line for each check that fails, then how many passed. Runs on tests/golden; with ATTNVAR_SHARED set also on the
# fixtures found there. CC builds tests/compare.c, unless there is a `compare` beside the program.
LC_ALL=C
export LC_ALL
bin=$(cd "$(dirname "${1:?the program to test}")" && pwd)/$(basename "$1")
here=$(cd "$(dirname "$0")" && pwd)
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
passed=0 failed=0 skipped=0

result() {      # result CODE WHAT: counts
    if [ "$1" -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAIL $2"; fi
}
skip() { skipped=$((skipped + 1)); echo "skipped: $1"; }

ok() {          # ok WHAT ARGUMENTS: succeeds, with nothing on standard error
    what=$1; shift
    "$bin" "$@" > "$t/out" 2> "$t/err"
    code=$?
    [ $code -eq 0 ] && [ ! -s "$t/err" ]
    result $? "$what: exit code $code: $(head -n 1 "$t/err")"
}
refused() {     # refused CODE SENTENCE ARGUMENTS: nothing on standard output, the sentence on standard error
    code=$1 sentence=$2; shift 2
    "$bin" "$@" > "$t/out" 2> "$t/err"
    got=$?
    [ $got -eq "$code" ] && [ ! -s "$t/out" ] && [ "$(cat "$t/err")" = "$sentence" ]
    result $? "$*: exit code $got, not $code, or not '$sentence' but: $(cat "$t/err")"
}
fails() {       # fails PIECE ARGUMENTS: exit code 1 and one line on standard error that has the piece in it
    piece=$1; shift
    "$bin" "$@" > "$t/out" 2> "$t/err"
    got=$?
    [ $got -eq 1 ] && [ "$(wc -l < "$t/err")" -eq 1 ] && grep -qF -- "$piece" "$t/err"
    result $? "$*: exit code $got, or no '$piece' in: $(cat "$t/err")"
}
same() { cmp -s "$2" "$3"; result $? "$1: $2 and $3 differ"; }
says() { grep -q -- "$2" "$t/out"; result $? "$1: no '$2' in: $(head -n 3 "$t/out")"; }
near() { d=$("$compare" "$2" "$3" "$4" 2>&1); result $? "$1: differs by $d, more than $4"; }

compare=$(dirname "$bin")/compare
if [ ! -x "$compare" ]; then
    compare=$t/compare
    ${CC:-cc} -w -O0 -o "$compare" "$here/compare.c" -lm -lpthread || exit 1
fi

# ---- the command line itself

ok "--help" --help
says "--help" "^  train "
ok "--version" --version
says "--version" "^attnvar [0-9]*\.[0-9]*\.[0-9]*$"
for c in train generate eval finetune logits grad tokenize inspect convert bench; do
    ok "$c --help" $c --help
    says "$c --help" "^    attnvar $c"
done
"$bin" > "$t/out" 2> "$t/err"
[ $? -eq 2 ] && [ ! -s "$t/out" ] && [ -s "$t/err" ]
result $? "no command at all"
refused 2 "attnvar: 'fly' is no command; attnvar --help lists them" fly
refused 2 "attnvar train: --steps=abc is not a whole number" train --steps=abc
refused 2 "attnvar train: --steps=1.5 is not a whole number" train --steps 1.5
refused 2 "attnvar train: --steps=-1 is not in 0..1000000000" train --steps -1
refused 2 "attnvar train: --steps=99999999999999999999 is not in 0..1000000000" train --steps 99999999999999999999
refused 2 "attnvar train: --lr=fast is not a number" train --lr fast
refused 2 "attnvar train: --lr=nan is not a number" train --lr nan
refused 2 "attnvar train: --lr=1e999 is not a number" train --lr 1e999
refused 2 "attnvar train: --beta1=1 is not in 0..0.999999999" train --beta1 1
refused 2 "attnvar generate: --temperature=0 must be above 0" generate x --temperature 0
refused 2 "attnvar train: --variant=mla is none of mha|mqa|gqa|kqv|combined" train --variant mla
refused 2 "attnvar train: --shape=3 is not B,T" train --shape 3
refused 2 "attnvar train: --shape=3,,4 is not a list of whole numbers" train --shape 3,,4
refused 2 "attnvar generate: --ids=1,x is not a list of whole numbers" generate x --ids 1,x
refused 2 "attnvar train: --out is empty" train --out=
refused 2 "attnvar train: --steps needs a value: N" train --steps
refused 2 "attnvar train: --steps needs a value: N" train --steps --json
refused 2 "attnvar train: --steps is given twice" train --steps 1 --steps=2
refused 2 "attnvar train: --json takes no value, but has '1'" train --json=1
refused 2 "attnvar train: --speed is no option of this command; --help lists them" train --speed 3
refused 2 "attnvar train: 'here' is no option, and nothing else is expected" train here
refused 2 "attnvar eval: 'b' is one argument too many after 'a'" eval a b
refused 2 "attnvar eval: DIR is missing; --help tells more" eval --json
refused 2 "attnvar logits: --out is missing; --help tells more" logits x --ids y --shape 1,2
refused 2 "attnvar eval: one of --text, --pairs and --classify is needed" eval x
refused 2 "attnvar eval: --limit is of no use with --text" eval x --text y --limit 3
refused 2 "attnvar eval: --wrap is of no use with --pairs" eval x --pairs y --wrap
refused 2 "attnvar eval: --wrap and --no-wrap do not go together" eval x --classify y --wrap --no-wrap
refused 2 "attnvar finetune: --wrap and --no-wrap do not go together" finetune x --task y --valid z --wrap --no-wrap
refused 2 "attnvar eval: --no-space is of no use with --classify" eval x --classify y --no-space
refused 2 "attnvar finetune: --task is missing; --help tells more" finetune x
refused 2 "attnvar finetune: --valid is missing, and --task=a.json has no .train. that could become .validation." \
    finetune x --task a.json
refused 2 "attnvar generate: one of --prompt and --ids is needed" generate x
refused 2 "attnvar generate: --logprobs needs --json" generate x --prompt y --logprobs
refused 2 "attnvar train: --data or --ids is missing; --help tells more" train --out "$t/x"
refused 2 "attnvar train: --ids and --data do not go together" train --ids a --data b --shape 1,2
refused 2 "attnvar train: --heads=4 and --model do not go together" train --data a --model b --heads 4 --out "$t/x"
: > "$t/file"                # no directory can be made in it, and none beyond the other
ln -s nowhere "$t/dangling"
refused 1 "attnvar train: $t/file: cannot be written: Not a directory" train --steps 0 --out "$t/file"
refused 1 "attnvar convert: $t/file/x: cannot be written: Not a directory" convert "$here/golden/gqa" --out "$t/file/x"
refused 1 "attnvar convert: $t/dangling: cannot be written: No such file or directory" \
    convert "$here/golden/gqa" --out "$t/dangling/x"
mkdir "$t/closed"
chmod 555 "$t/closed"
closed=$t/closed
[ -w "$closed" ] && closed=/proc                # to root it is open
if [ -d "$closed" ]; then                       # before anything is read
    fails "$closed: cannot be written: " train --data "$t/none" --out "$closed/x/y"
    fails "$closed: cannot be written: " finetune "$t/none" --task "$t/none.train.json" --out "$closed"
    fails "$closed: cannot be written: " convert "$t/none" --out "$closed"
else skip "a directory that is closed to root: there is no /proc"; fi
mkdir "$t/a b"
fails "$t/none/config.json" convert "$t/none" --out "$t/a b/c/d"
[ -z "$(ls -A "$t/a b")" ]
result $? "a refused run left $(ls -A "$t/a b")"
refused 1 "attnvar logits: $t/none: cannot be read: No such file or directory" logits x --ids "$t/none" --shape 1,2 --out "$t/x"
fails "$t/none" inspect "$t/none"
fails "num_heads" train --steps 0 --out "$t/x" --hidden 30 --heads 4

# ---- raw ids: golden models, fixtures

isas=
for isa in scalar avx2 avx512 neon; do
    if "$bin" tokenize "$here/golden/tokenizer" --isa $isa < /dev/null > /dev/null 2> "$t/err"; then isas="$isas $isa"
    else skip "--isa $isa: $(head -n 1 "$t/err")"; fi
done

expected() {    # expected DIR KEY FACTOR: a tolerance of its expected.json
    sed -n '/fp32_run/,/}/s/.*"'"$2"'": *\([-+.0-9e]*\).*/\1/p' "$1/expected.json" | awk -v f="$3" '{ print f * $1 }'
}
model() {       # model DIR B T NEW ISA THREADS..: everything that the directory has expected values for
    dir=$1 rows=$2 length=$3 new=$4 isa=$5; shift 5
    name="$(basename "$dir") $isa"
    ids=$(od -An -v -t d4 "$dir/input_ids.i32")
    first=
    for n in "$@"; do
        o=$t/$n
        rm -rf "$o"; mkdir "$o"
        how="--threads $n --isa $isa"
        raw="--ids $dir/input_ids.i32 --shape $rows,$length"
        ok "$name logits" logits "$dir" $raw --out "$o/logits" $how
        ok "$name grad" grad "$dir" $raw --out "$o/grads.safetensors" $how
        cp "$t/out" "$o/loss"
        ok "$name train" train --model "$dir" $raw --steps 3 --lr 1e-3 --weight-decay 0.01 --decay-all --out "$o/model" $how
        cp "$t/out" "$o/losses"
        row=0
        while [ $row -lt "$rows" ]; do
            prompt=$(echo $ids | tr ' ' '\n' | sed -n "$((row * length + 1)),$((row * length + 8))p" | paste -s -d , -)
            "$bin" generate "$dir" --ids "$prompt" --tokens "$new" --greedy --ignore-eos $how >> "$o/greedy"
            row=$((row + 1))
        done
        if [ -n "$first" ]; then
            for file in logits grads.safetensors loss losses greedy model/model.safetensors model/trainer.safetensors; do
                same "$name threads $n" "$t/$first/$file" "$o/$file"
            done
            continue
        fi
        first=$n
        near "$name logits" "$o/logits" "$dir/logits.f32" "$(expected "$dir" logits 4)"
        near "$name grad" "$o/grads.safetensors" "$dir/grads.safetensors" "$(expected "$dir" grads 4)"
        near "$name train" "$o/model/model.safetensors" "$dir/after_adamw3.safetensors" "$(expected "$dir" after_adamw3 10)"
        tr ' ' '\n' < "$o/greedy" > "$t/have"
        od -An -v -t d4 "$dir/greedy.i32" | tr -s ' ' '\n' | sed '/^$/d' > "$t/want"
        same "$name generate" "$t/have" "$t/want"
        { sed -n 's/^loss \([^ ]*\).*/\1/p' "$o/loss"; sed -n 's/^step [123] loss //p' "$o/losses"; } > "$t/have"
        { sed -n '1,/"loss"/s/.*"loss": *\([-+.0-9e]*\).*/\1/p' "$dir/expected.json"
          sed -n '/losses_before/,/\]/s/^ *\([-+.0-9e]*\),$/\1/p' "$dir/expected.json"; } > "$t/want"
        paste "$t/have" "$t/want" | awk -v max="$(expected "$dir" loss 4)" '
            { d = $1 - $2; if (d < 0) d = -d; if (NF != 2 || d > max + 5e-9) bad = 1 } END { exit bad || NR != 4 }'
        result $? "$name losses: $(paste -s -d ' ' "$t/have") are not $(paste -s -d ' ' "$t/want")"
    done
}
for m in mha gqa mqa kqv combined map cla; do model "$here/golden/$m" 2 20 14 auto 1 2; done
if [ -n "$ATTNVAR_SHARED" ]; then
    for m in mha_h4 gqa_h8_kv3 mqa_h8 kqv50_h4 combined_g50_k50_h4; do
        for isa in $isas; do model "$ATTNVAR_SHARED/fixtures/gptneo/$m" 3 40 20 $isa 1 2 3; done
    done
else
    skip "the larger fixtures: ATTNVAR_SHARED is not set"
fi

g=$here/golden/gqa
raw="--ids $g/input_ids.i32 --shape 2,20"
refused 1 "attnvar logits: $g/input_ids.i32: has 160 bytes, but --shape=3,20 makes 240" \
    logits "$g" --ids "$g/input_ids.i32" --shape 3,20 --out "$t/x"
fails "max_position_embeddings" logits "$g" --ids "$g/input_ids.i32" --shape 1,40 --out "$t/x"
fails "$t/no/x: cannot be written" logits "$g" $raw --out "$t/no/x"
[ ! -e "$t/x" ] && [ ! -e "$t/x.tmp" ]
result $? "a refused run left a file"
ok "blocks" train --model "$g" --ids "$g/input_ids.i32" --shape 1,20 --steps 4 --lr 0 --out "$t/blocks"
awk '{ l[$2] = $4 } END { exit !(NR == 4 && l[1] != l[2] && l[1] == l[3] && l[2] == l[4]) }' "$t/out"
result $? "blocks: steps take the file's blocks in turn: $(cat "$t/out")"
ok "grad --json" grad "$g" $raw --out "$t/g.safetensors" --json
says "grad --json" '^{"loss": [0-9.]*, "tokens": 38, "grad_norm": [0-9.]*}$'
ok "logits --json" logits "$g" $raw --out "$t/logits" --json
says "logits --json" '"shape": "2,20,[0-9]*"}$'
"$bin" generate "$g" --ids 1,2,3 --tokens 100 --ignore-eos > "$t/out" 2> "$t/err" && grep -q "note: the context of 24 positions is full" "$t/err"
result $? "a full context: $(cat "$t/err")"
[ "$(wc -w < "$t/out")" -eq 22 ]
result $? "a full context: $(wc -w < "$t/out") tokens, not 22"
fails "the prompt has 25 tokens" generate "$g" --ids 1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1
fails "10000" generate "$g" --ids 1,10000
fails "tokenizer" generate "$g" --prompt hello

# ---- inspect, convert, bench

ok "inspect" inspect "$g"
says "inspect" "^variant gqa$"
ok "inspect --json" inspect "$g" --json
says "inspect --json" '^{"variant": "gqa", .*"layers": \[{"num_heads": .*"tensors": {.*}}$'
ok "convert" convert "$g" --out "$t/made/f32"
near "convert" "$t/made/f32/model.safetensors" "$g/model.safetensors" 0
for dtype in bf16 f16; do
    ok "convert $dtype" convert "$g" --out "$t/made/$dtype" --dtype $dtype
    near "convert $dtype" "$t/made/$dtype/model.safetensors" "$g/model.safetensors" 0.01
    ok "convert $dtype back" convert "$t/made/$dtype" --out "$t/made/back"
    near "convert $dtype back" "$t/made/back/model.safetensors" "$t/made/$dtype/model.safetensors" 0
    ok "convert $dtype again" convert "$t/made/back" --out "$t/made/again" --dtype $dtype
    same "convert $dtype again" "$t/made/again/model.safetensors" "$t/made/$dtype/model.safetensors"
done
small="--hidden 32 --heads 4 --vocab 300 --ffn-base 64 --context 24 --window 8 --batch 1,3 --rows 16,512 --length 16 --repeats 2"
ok "bench" bench --json $small --variant combined --group-proportion .5 --kqv-proportion .5 --html "$t/bench.html"
line='^{"work": "[a-z]*", "shape": "[^"]*", "variant": "combined", "batch": [0-9]*, "context": [0-9]*, "dtype": "f32", "isa": "[a-z0-9]*", "threads": [0-9]*, "value": [0-9.e+-]*, "unit": "[^"]*", "limit": [0-9.e+-]*, "fraction": [0-9.e+-]*}$'
[ "$(grep -c "$line" "$t/out")" -eq "$(wc -l < "$t/out")" ] && [ "$(grep -c '"work": "decode"' "$t/out")" -eq 2 ] &&
    [ "$(grep -c '"work": "train"' "$t/out")" -eq 1 ] && grep -q '"work": "matmul"' "$t/out"
result $? "bench: $(cat "$t/out")"
grep -q '</svg>' "$t/bench.html"
result $? "bench --html: no picture"

# ---- a classifier: known, kept, and not taken for a language model

c=$here/golden/classifier
ok "inspect a classifier" inspect "$c"
says "inspect a classifier" "^num_labels 3$"
ok "convert a classifier" convert "$c" --out "$t/made/classifier"
near "convert a classifier" "$t/made/classifier/model.safetensors" "$c/model.safetensors" 0
grep -q '"id2label": {$' "$t/made/classifier/config.json" && grep -q '"GPTNeoForSequenceClassification"' "$t/made/classifier/config.json"
result $? "convert a classifier: $(cat "$t/made/classifier/config.json")"
no="$c: is a classifier of num_labels=3, not a language model"
fails "$no" logits "$c" --ids "$c/input_ids.i32" --shape 3,15 --out "$t/x"
fails "$no" grad "$c" --ids "$c/input_ids.i32" --shape 3,15 --out "$t/x"
fails "$no" generate "$c" --ids 1,2
fails "$no" eval "$c" --text "$c/config.json"
fails "$no" train --model "$c" --ids "$c/input_ids.i32" --shape 3,15 --steps 1 --out "$t/x"

# ---- text

tokens() {      # tokens DIR CASES: a line each, {"text":..,"ids":..,"decoded":..,..
    sed 's/^{"text":\(".*"\),"ids":\[.*$/\1/' "$2" > "$t/texts"
    sed 's/^.*","ids":\(\[[0-9,]*\]\),"decoded":".*$/\1/' "$2" > "$t/ids"
    sed 's/^.*\],"decoded":\(".*"\),"has_special":.*$/\1/' "$2" > "$t/decoded"
    "$bin" tokenize "$1" --json < "$t/texts" > "$t/have"
    same "tokenize $1 --json" "$t/have" "$t/ids"
    del=$(printf '\177')     # control characters may be written in more than one way
    "$bin" tokenize "$1" --decode --json < "$t/ids" |
        sed 's/\\u0008/\\b/g; s/\\u0009/\\t/g; s/\\u000a/\\n/g; s/\\u000c/\\f/g; s/\\u000d/\\r/g; s/\\u007f/'"$del/g" > "$t/have"
    same "tokenize $1 --decode --json" "$t/have" "$t/decoded"
}
tk=$here/golden/tokenizer
tokens "$tk" "$tk/cases.jsonl"
if [ -n "$ATTNVAR_SHARED" ]; then tokens "$ATTNVAR_SHARED/data/tokenizer-10k" "$ATTNVAR_SHARED/fixtures/tokenizer/cases.jsonl"; fi
"$bin" tokenize "$tk" < "$tk/text.txt" | "$bin" tokenize "$tk" --decode > "$t/have"
same "tokenize and back" "$t/have" "$tk/text.txt"
mkdir "$t/prefix"           # more ids than bytes; as Hugging Face's tokenizers has them
sed 's/"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false/"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":true/' \
    "$tk/tokenizer.json" > "$t/prefix/tokenizer.json"
printf '"%s"\n' x 'x<s>y<s>z' '<s>\n' '' was | "$bin" tokenize "$t/prefix" --json > "$t/have"
printf '[%s]\n' 225,92 225,92,0,225,93,0,225,94 0,225,203 '' 273 > "$t/want"
same "tokenize with add_prefix_space" "$t/have" "$t/want"
echo "1 x" | "$bin" tokenize "$tk" --decode > "$t/out" 2> "$t/err"
[ $? -eq 1 ] && grep -q "standard input: is no list of ids" "$t/err"
result $? "tokenize --decode of a word: $(cat "$t/err")"
echo '"a' | "$bin" tokenize "$tk" --json > "$t/out" 2> "$t/err"
[ $? -eq 1 ] && grep -q "standard input, line 1" "$t/err"
result $? "tokenize --json of half a string: $(cat "$t/err")"

mkdir "$t/data"
stories() {     # stories FROM TO: small documents
    awk -v from="$1" -v to="$2" 'BEGIN {
        split("cat dog fox hen pig", who); split("red big sad shy", how); split("sings runs sleeps", does)
        for (i = from; i < to; i++) {
            for (j = 0; j < 1 + i % 4; j++) printf "The %s %s %s. ", how[(i + j) % 4 + 1], who[(3 * i + j) % 5 + 1], does[(i + 2 * j) % 3 + 1]
            printf "\n<|endoftext|>\n"
        }
    }'
}
stories 0 80 > "$t/data/train.txt"
stories 100 110 > "$t/data/valid.txt"
shape="--vocab 300 --hidden 32 --heads 4 --ffn-base 64 --context 48 --window 8 --variant gqa --group-proportion 0.5"
recipe="--batch 4 --accumulate 2 --lr 5e-3 --schedule cosine --warmup 2 --decay-steps 12 --clip 1 --seed 3"
ok "train 12" train --data "$t/data" $shape $recipe --steps 12 --threads 1 --out "$t/a"
ok "train 6" train --data "$t/data" $shape $recipe --steps 6 --threads 2 --out "$t/b"
ok "train 6 more" train --data "$t/data" $shape $recipe --steps 12 --threads 3 --out "$t/b" --resume
for file in model.safetensors trainer.safetensors config.json tokenizer.json vocab.json merges.txt tokenizer_config.json; do
    same "2N steps and N + N" "$t/a/$file" "$t/b/$file"
done
refused 1 "attnvar train: $t/a: has a trainer.safetensors already; --resume goes on with it, another --out begins anew" \
    train --data "$t/data" $shape --out "$t/a"
refused 1 "attnvar train: --steps=3, but $t/a has done 12" train --data "$t/data" $shape $recipe --steps 3 --out "$t/a" --resume
ok "train --eval-every" train --data "$t/data" $shape --batch 4 --lr 5e-3 --steps 20 --eval-every 10 --json --out "$t/c/d"
[ "$(grep -c '^{"step": [0-9]*, "valid_loss": [0-9.]*, "valid_perplexity": [0-9.]*, "valid_tokens": [0-9]*}$' "$t/out")" -eq 2 ]
result $? "train --eval-every: $(cat "$t/out")"
awk '/"loss"/ { sub(",", "", $4); if (!first) first = $4; last = $4 } END { exit !(last < 0.9 * first) }' "$t/out"
result $? "train lowers the loss: $(cat "$t/out")"
: > "$t/empty"
fails "$t/empty: holds no document" train --data "$t/empty" --tokenizer "$t/a" --out "$t/x"
fails "$t/no.txt: cannot be read" train --data "$t/no.txt" --out "$t/x"
if [ -w /dev/full ]; then                       # a full disk, while training saves
    mkdir "$t/full"
    ln -s /dev/full "$t/full/trainer.safetensors.tmp"
    "$bin" train --data "$t/data" $shape --batch 4 --steps 4 --save-every 2 --out "$t/full" > "$t/out" 2> "$t/err"
    [ $? -eq 1 ] && [ "$(cat "$t/err")" = "attnvar train: $t/full/trainer.safetensors: cannot be written: No space left on device" ]
    result $? "train on a full disk: $(cat "$t/err")"
fi
ok "train --steps 0" train --steps 0 $shape --out "$t/zero"
[ -s "$t/zero/model.safetensors" ] && [ -s "$t/zero/config.json" ]
result $? "train --steps 0 saves"
"$bin" train --data "$t/data" $shape --batch 4 --steps 1000000 --out "$t/long" > "$t/out" 2> "$t/err" &
pid=$!
tries=0
until [ -s "$t/out" ] || [ $tries -ge 100 ]; do sleep 0.1; tries=$((tries + 1)); done
kill -INT $pid
wait $pid
[ $? -eq 130 ] && grep -q "^attnvar train: interrupted after step [0-9]* of 1000000; --resume goes on from " "$t/err"
result $? "an interrupt: $(cat "$t/err")"
done=$(sed 's/.*after step \([0-9]*\) of.*/\1/' "$t/err")
ok "resumed" train --data "$t/data" $shape --batch 4 --steps $((done + 1)) --out "$t/long" --resume
says "resumed" "^step $((done + 1)) loss "

ok "eval --text" eval "$t/c/d" --text "$t/data/valid.txt"
says "eval --text" "^loss [0-9.]* perplexity [0-9.]* tokens [0-9]* documents 10 "
ok "eval --text --json" eval "$t/c/d" --text "$t/data/valid.txt" --json
says "eval --text --json" '^{"loss": [0-9.]*, "perplexity": [0-9.]*, "tokens": [0-9]*, "documents": 10, "tokens_per_second": [0-9.e+]*}$'
mkdir "$t/pairs"
for who in cat dog fox hen; do
    echo '{"sentence_good": "The red '$who' sings.", "sentence_bad": "The '$who' red. sings"}'
done > "$t/pairs/order.jsonl"
echo '{"sentence_bad": "The big pig runs.", "sentence_good": "The big pig runs.", "UID": "tie"}' > "$t/pairs/a_tie.json"
echo '{"sentence_bad": "The hen hen hen.", "sentence_good": "The hen sings.", "UID": "tie", "linguistics_term": "t"}' >> "$t/pairs/a_tie.json"
ok "eval --pairs" eval "$t/c/d" --pairs "$t/pairs"
sed 's/  */ /g' "$t/out" > "$t/have"
cat > "$t/want" << 'end'
file pairs % good 95 % interval
a_tie.json 2 100.00 34.24 .. 100.00
order.jsonl 4 100.00 51.01 .. 100.00

linguistics_term pairs % good 95 % interval
t 1 100.00 20.65 .. 100.00

UID pairs % good 95 % interval
tie 2 100.00 34.24 .. 100.00

overall 6 100.00 60.97 .. 100.00
mean of files 100.00
end
same "eval --pairs" "$t/want" "$t/have"
ok "eval --pairs --json" eval "$t/c/d" --pairs "$t/pairs/order.jsonl" --json --limit 3 --no-space --start-token "<s>"
for table in file overall; do says "eval --pairs --json" \
    '^{"table": "'$table'", "name": "[a-z.]*", "pairs": 3, "correct": [0-3], "accuracy": [0-9.]*, "low": [0-9.]*, "high": [0-9.]*}$'
done
ok "eval --pairs --json" eval "$t/c/d" --pairs "$t/pairs" --json
says "eval --pairs --json" '^{"table": "mean of files", "files": 2, "accuracy": 1}$'
echo '{"sentence_good": "The hen sings."}' > "$t/bad.json"
fails "$t/bad.json: line 1: no sentence_bad" eval "$t/c/d" --pairs "$t/bad.json"
fails "$t/empty: holds no pair: it is empty" eval "$t/c/d" --pairs "$t/empty"
sed 's/^/[/' "$t/pairs/order.jsonl" > "$t/bad.json"
fails "$t/bad.json: line 1: an array begins here" eval "$t/c/d" --pairs "$t/bad.json"
{ printf '\357\273\277'; cat "$t/pairs/order.jsonl"; } > "$t/bad.json"
fails "$t/bad.json: line 1 column 1: a byte order mark" eval "$t/c/d" --pairs "$t/bad.json"
big=$tk                                         # a tokenizer of more tokens than the model has
for how in "eval --text $t/data/valid.txt" "eval --pairs $t/pairs" "finetune --task $t/none.train.json"; do
    fails "$big: its tokenizer has 600 tokens, but $t/c/d vocab_size=300" ${how%% *} "$t/c/d" ${how#* } --tokenizer "$big"
done
fails "$big: its tokenizer has 600 tokens, but $t/c/d vocab_size=300" \
    train --model "$t/c/d" --data "$t/data" --tokenizer "$big" --out "$t/x"
fails "--start-token=nobody" eval "$t/c/d" --pairs "$t/pairs" --start-token nobody
fails "--start-token=9999" eval "$t/c/d" --pairs "$t/pairs" --start-token 9999
fails "$t/a/config.json" eval "$t/c/d" --pairs "$t/a/config.json"

mkdir "$t/task"
examples() {    # examples FROM TO: pairs whose second sentence has the dog, or has not
    awk -v from="$1" -v to="$2" 'BEGIN {
        split("cat dog fox hen pig", who); split("red big sad shy", how); split("sings runs sleeps", does)
        for (i = from; i < to; i++) {
            w = i * 7 % 11 % 2 ? "dog" : who[i * 5 % 4 + (i * 5 % 4 > 0) + 1]
            printf "{\"sentence1\": \"The %s %s.\", \"sentence2\": \"The %s %s %s.\", \"idx\": %d, \"label\": \"%s\"}\n",
                who[i % 5 + 1], does[i % 3 + 1], how[i % 4 + 1], w, does[i * 3 % 7 % 3 + 1], i, w == "dog" ? "dog" : "another"
        }
    }'
}
examples 0 160 > "$t/task/dogs.train.json"
examples 200 240 > "$t/task/dogs.validation.json"
how="--lr 3e-3 --batch 8 --epochs 6 --eval-every 50 --threads 1"
ok "finetune" finetune "$t/c/d" --task "$t/task/dogs.train.json" $how --out "$t/dogs"
[ "$(grep -c '^step [0-9]* epoch [0-9.]* train_loss [0-9.]* metric accuracy score [0-9.]* baseline 0.[56][0-9]* accuracy .* best [01]$' "$t/out")" -eq 3 ]
result $? "finetune: evaluations: $(cat "$t/out")"
awk '/^best_step/ { n++; if ($5 == "score" && $6 > 0.9 && $7 == "baseline" && $8 < 0.7) good++ } END { exit !(n == 1 && good == 1) }' "$t/out"
result $? "finetune learns: $(tail -n 1 "$t/out")"
grep -q '"id2label": {"0": "another", "1": "dog"}' "$t/dogs/config.json"
result $? "finetune: labels: $(cat "$t/dogs/config.json")"
score=$(sed -n 's/^best_step .* metric accuracy score \([0-9.]*\) baseline .*/\1/p' "$t/out")
ok "eval --classify" eval "$t/dogs" --classify "$t/task/dogs.validation.json"
says "eval --classify" "^metric accuracy score $score baseline 0.[56][0-9]* accuracy $score baseline_accuracy .* examples 40$"
ok "eval --classify --json" eval "$t/dogs" --classify "$t/task/dogs.validation.json" --json --metric mcc
says "eval --classify --json" '^{"metric": "mcc", "score": [-0-9.]*, "baseline": 0, "accuracy": [0-9.]*, .*"examples": 40}$'
# what it was trained with, it is evaluated with
valid=$t/task/dogs.validation.json
grep -qF '"task_specific_params": {"text-classification": {"max_length": 48, "add_special_tokens": false}}' "$t/dogs/config.json"
result $? "finetune keeps: $(cat "$t/dogs/config.json")"
ok "inspect a classifier" inspect "$t/dogs"
says "inspect a classifier" "^max_length 48$"
says "inspect a classifier" "^wrap 0$"
ok "eval --classify" eval "$t/dogs" --classify "$valid"
cp "$t/out" "$t/as_trained"
cp -r "$t/dogs" "$t/told"
for way in 's/"add_special_tokens": false/"add_special_tokens": true/ --wrap' 's/"max_length": 48/"max_length":5/ --max-length=5'; do
    sed "${way% --*}" "$t/dogs/config.json" > "$t/told/config.json"
    ok "eval --classify ${way##* }" eval "$t/dogs" --classify "$valid" "${way##* }"
    cp "$t/out" "$t/want"
    ok "eval --classify" eval "$t/told" --classify "$valid"
    same "eval --classify of what keeps ${way##* }" "$t/want" "$t/out"
    cmp -s "$t/want" "$t/as_trained"
    [ $? -eq 1 ]
    result $? "eval --classify is with ${way##* } as without"
    ok "eval --classify" eval "$t/told" --classify "$valid" --no-wrap --max-length 48
    same "eval --classify in spite of what it keeps" "$t/out" "$t/as_trained"
done
ok "finetune a classifier" finetune "$t/told" --task "$t/task/dogs.train.json" --epochs 1 --wrap --out "$t/way"
grep -qF '{"text-classification": {"max_length": 5, "add_special_tokens": true}}' "$t/way/config.json"
result $? "finetune keeps: $(cat "$t/way/config.json")"
ok "eval --classify --limit" eval "$t/dogs" --classify "$t/task/dogs.validation.json" --limit 7 --json
head -n 7 "$t/task/dogs.validation.json" > "$t/seven.json"
cp "$t/out" "$t/have"
ok "eval --classify" eval "$t/dogs" --classify "$t/seven.json" --json
same "eval --classify --limit" "$t/have" "$t/out"
says "eval --classify --limit" '"examples": 7}$'
{ cat "$t/seven.json"; echo "{"; } > "$t/eight.json"
ok "what comes after the limit is not read" eval "$t/dogs" --classify "$t/eight.json" --limit 7
fails "$t/eight.json: line 8 column 2: " eval "$t/dogs" --classify "$t/eight.json" --limit 8
ok "finetune --json" finetune "$t/c/d" --task "$t/task/dogs.train.json" --valid "$t/task/dogs.validation.json" \
    --epochs 1 --wrap --max-length 20 --metric f1 --seed 3 --json
[ "$(grep -c '^{"step": 3, .*"metric": "f1", .*}$' "$t/out")" -eq 1 ] && grep -q '^{"best_step": 3, .*"examples": 40, "steps": 3, .*}$' "$t/out"
result $? "finetune --json: $(cat "$t/out")"
for part in train validation; do sed 's/"another"/"a \\"cat\\""/' "$t/task/dogs.$part.json" > "$t/task/cats.$part.json"; done
ok "finetune a classifier" finetune "$t/dogs" --task "$t/task/cats.train.json" --epochs 1 --lr 0 --out "$t/cats"
says "finetune a classifier" "^best_step .* metric accuracy score $score baseline"
grep -qF '"id2label": {"0": "a \"cat\"", "1": "dog"}' "$t/cats/config.json" && ! grep -q another "$t/cats/config.json"
result $? "finetune a classifier: labels: $(cat "$t/cats/config.json")"
ok "eval --classify, other labels" eval "$t/cats" --classify "$t/task/cats.validation.json"
says "eval --classify, other labels" "^metric accuracy score $score "
cp "$t/task/dogs.train.json" "$t/task/cola.train.json"
cp "$t/task/dogs.validation.json" "$t/task/cola.validation.json"
ok "finetune: CoLA's metric" finetune "$t/c/d" --task "$t/task/cola.train.json" --epochs 1
says "finetune: CoLA's metric" "metric mcc"
echo '{"sentence1": "a", "sentence2": "b", "label": "cow"}' > "$t/cow.json"
label=$(sed -n '1s/.*\("label": *[^,}]*\).*/\1/p' "$t/task/dogs.validation.json")
echo "{\"question\": \"a\", \"passage\": \"b\", $label}" > "$t/cow2.json"
fails "$t/cow.json: line 1: label=cow is none of the 2 from another to dog" eval "$t/dogs" --classify "$t/cow.json"
sed 's/"label": "[a-z]*"/"label": -1/' "$t/task/dogs.validation.json" > "$t/nolabel.json"
fails "$t/nolabel.json: no example has a label" finetune "$t/c/d" --task "$t/task/dogs.train.json" --valid "$t/nolabel.json"
fails "$t/nolabel.json: no example has a label" finetune "$t/c/d" --task "$t/nolabel.json" --valid "$t/task/dogs.validation.json"
fails "$t/nolabel.json: no example has a label" eval "$t/dogs" --classify "$t/nolabel.json"
fails "$t/cow.json: all labels are cow" finetune "$t/c/d" --task "$t/cow.json" --valid "$t/task/dogs.validation.json"
fails "has the fields sentence" finetune "$t/c/d" --task "$t/task/dogs.train.json" --valid "$t/cow2.json"
fails "would replace the language model" finetune "$t/c/d" --task "$t/task/dogs.train.json" --out "$t/c/d"
fails "$t/task/none.validation.json: cannot be read" finetune "$t/c/d" --task "$t/task/dogs.train.json" --valid "$t/task/none.validation.json"
fails "is a language model, not a classifier" eval "$t/c/d" --classify "$t/task/dogs.validation.json"
fails "is a classifier of num_labels=2" eval "$t/dogs" --text "$t/data/valid.txt"

ok "generate" generate "$t/c/d" --prompt "The red" --tokens 20 --seed 5
says "generate" "^The red"
cp "$t/out" "$t/have"
ok "generate again" generate "$t/c/d" --prompt "The red" --tokens 20 --seed 5 --threads 1
same "generate with a seed" "$t/have" "$t/out"
printf 'The red\n' | "$bin" generate "$t/c/d" --prompt - --tokens 20 --seed 5 > "$t/out"
same "generate from standard input" "$t/have" "$t/out"
ok "generate with another seed" generate "$t/c/d" --prompt "The red" --tokens 20 --seed 6
[ "$(cat "$t/have")" != "$(cat "$t/out")" ]
result $? "generate: seeds 5 and 6 give the same"
if [ -w /dev/full ]; then
    "$bin" generate "$t/c/d" --prompt "The red" > /dev/full 2> "$t/err"
    [ $? -eq 1 ] && [ "$(cat "$t/err")" = "attnvar generate: standard output: cannot be written" ]
    result $? "generate to a full device: $(cat "$t/err")"
fi
ok "generate --n" generate "$t/c/d" --prompt "" --n 3 --json --logprobs --tokens 5 --top-k 20 --top-p 0.9 --temperature 0.7
[ "$(grep -c '^{"sample": [0-2], "end": "[a-z]*", "ids": \[[0-9, ]*\], "logprobs": \[[-0-9.e, ]*\], "text": ".*"}$' "$t/out")" -eq 3 ]
result $? "generate --n 3: $(cat "$t/out")"
ok "convert" convert "$t/c/d" --out "$t/copy"
for file in model.safetensors tokenizer.json vocab.json merges.txt tokenizer_config.json; do
    same "convert" "$t/c/d/$file" "$t/copy/$file"
done
for dir in "$t/c/d" "$t/copy"; do sed 's/,$//' "$dir/config.json" | sort > "$dir/sorted"; done
same "convert: config.json, in any order" "$t/c/d/sorted" "$t/copy/sorted"

# ---- the comparison with torch: arguments, and that both compute the same

torch=$here/../tools/bench_torch.py
if command -v python3 > /dev/null; then
    python3 -c 'import py_compile, sys; py_compile.compile(*sys.argv[1:], doraise=True)' "$torch" "$t/torch.pyc" 2> "$t/err"
    result $? "bench_torch.py does not compile: $(tail -n 1 "$t/err")"
    for words in --work=fly --rounds=0 --threads=x; do
        python3 "$torch" $words > "$t/out" 2> "$t/err"
        [ $? -eq 2 ] && [ ! -s "$t/out" ] && grep -q -- "${words%=*}" "$t/err"
        result $? "bench_torch.py $words: $(cat "$t/err")"
    done
    python3 "$torch" --check --threads 1 --attnvar "$bin" > "$t/out" 2> "$t/err"
    code=$?
    if grep -q "there is no torch" "$t/err"; then skip "the comparison with torch: $(cat "$t/err")"
    else
        [ $code -eq 0 ] && grep -q "compute the same" "$t/out"
        result $? "bench_torch.py --check: exit code $code: $(tail -n 1 "$t/err")"
        python3 "$torch" --check --attnvar "$t/none" > "$t/out" 2> "$t/err"
        [ $? -eq 1 ] && grep -q "$t/none: No such file or directory; \`make\` builds it" "$t/err"
        result $? "bench_torch.py without attnvar: $(cat "$t/err")"
    fi
else skip "tools/bench_torch.py: no python3"; fi

line="cli: $passed passed, $failed failed"
[ $skipped -gt 0 ] && line="$line, $skipped skipped"
echo "$line"
[ $failed -eq 0 ]
