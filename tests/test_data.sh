#!/bin/sh
# tools/get_data.sh without a network: a curl and a wget of our own read files from a folder, log how they are called, and
# stop or fail on demand. Run from the top of the repository.
LC_ALL=C
export LC_ALL
top=$(pwd)
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
passed=0 failed=0 skipped=0

result() { if [ "$1" -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $2"; fi; }
skip() { skipped=$((skipped + 1)); echo "SKIPPED: $1"; }

# Folders of programs: what the script needs, and each downloader alone.
mkdir "$t/tools" "$t/curl" "$t/wget" "$t/server"
for program in sh cat wc cut sed awk find head sort tr mkdir rm mv cp dirname sha1sum sha256sum shasum openssl unzip bsdtar python3; do
    command -v $program > /dev/null && ln -s "$(command -v $program)" "$t/tools/$program"
done
cat > "$t/curl/curl" << 'END'
#!/bin/sh
echo "curl $*" >> "$LOG"
[ -z "$FAIL" ] || exit "$FAIL"
from=0 resume=
while [ $# -gt 1 ]; do
    case $1 in
    -o) out=$2; shift ;;
    -C) [ -z "$NO_RANGES" ] || exit 33; resume=1; shift ;;
    esac
    shift
done
file=${1#stub:}
[ -f "$file" ] || exit 22
[ -z "$resume" ] || from=$(($(wc -c < "$out")))
[ $from -gt 0 ] || : > "$out"
if [ -n "$STOP" ]; then tail -c +$((from + 1)) "$file" | head -c "$STOP" >> "$out"; exit 18; fi
tail -c +$((from + 1)) "$file" >> "$out"
END
cat > "$t/wget/wget" << 'END'
#!/bin/sh
echo "wget $*" >> "$LOG"
[ "$1 $2" = "-c -O" ] && [ $# -eq 4 ] || exit 2
[ -f "${4#stub:}" ] || exit 4
[ -e "$3" ] || : > "$3"
tail -c +$(($(wc -c < "$3") + 1)) "${4#stub:}" >> "$3"
END
chmod +x "$t/curl/curl" "$t/wget/wget"
ln -s "$(command -v tail)" "$t/curl/tail"
ln -s "$(command -v tail)" "$t/wget/tail"

run() {         # run CODE DOWNLOADER WHAT ..: into $t/data
    want=$1 with=$2; shift 2
    : > "$t/log"
    (PATH=$t/tools:$t/$with LOG=$t/log SOURCES=$t/sources "$top/tools/get_data.sh" "$t/data" "$@") > "$t/out" 2> "$t/err"
    code=$?
    [ $code -eq "$want" ]
    result $? "get_data.sh $* with $with: exit code $code, not $want: $(cat "$t/err")"
}
says() { grep -qF -- "$1" "$t/out" "$t/err"; result $? "no '$1' in: $(cat "$t/out" "$t/err")"; }
calls() { [ "$(grep -c "^$1" "$t/log")" -eq "$2" ]; result $? "not $2 calls of '$1' but: $(cat "$t/log")"; }
there() { cmp -s "$t/server/$1" "$t/data/$2"; result $? "$t/data/$2 is not what the server has"; }

awk 'BEGIN { for (i = 0; i < 300; i++) printf "Story %d.\n<|endoftext|>\n", i }' > "$t/server/train.txt"
printf 'A story.\n<|endoftext|>\n' > "$t/server/valid.txt"
bytes() { echo $(($(wc -c < "$t/server/$1"))); }
sha() { sha256sum "$t/server/$1" | cut -d ' ' -f 1; }
if ! command -v sha256sum > /dev/null; then
    skip "tools/get_data.sh: no sha256sum to make its files with"
    echo "data: 0 passed, 0 failed, 1 skipped"
    exit 0
fi
cat > "$t/sources" << END
tinystories/train.txt $(bytes train.txt) sha256:$(sha train.txt) stub:$t/server/train.txt
tinystories/valid.txt - - stub:$t/server/valid.txt
filter_data.zip - git:0 stub:$t/server/filter_data.zip
BLiMP.zip - sha256:0 stub:$t/server/BLiMP.zip
END

"$top/tools/get_data.sh" --help > "$t/out" 2> "$t/err" && [ ! -s "$t/err" ]
result $? "--help"
says "DIR/tinystories/train.txt"
run 2 curl fly
says "'fly' is none of"

# neither curl nor wget; no network; what was cut off, and goes on
run 1 none tinystories
says "neither curl nor wget"
says "$t/server/valid.txt"
says "$t/data/tinystories/train.txt"
FAIL=6 run 1 curl tinystories
says "$t/data/tinystories/train.txt is missing: curl failed with exit code 6"
[ -z "$(find "$t/data" -type f)" ]
result $? "a failure left files: $(find "$t/data" -type f)"
STOP=1000 run 1 curl tinystories
says "another run goes on from the 1000 bytes"
part=$t/data/tinystories/train.txt.part
[ "$(wc -c < "$part")" -eq 1000 ] && [ ! -e "$t/data/tinystories/train.txt" ]
result $? "what was cut off is not in $part"
run 0 curl tinystories
there train.txt tinystories/train.txt
there valid.txt tinystories/valid.txt
calls "curl -fL -C - -o $part" 1
says "its checksum is not known"
says "make reproduce DATA=$t/data/tinystories"
run 0 curl tinystories
calls curl 0
says "train.txt: there already"

# a server that cannot go on; a whole file that was not renamed; wget
rm "$t/data/tinystories/train.txt"
head -c 1000 "$t/server/train.txt" > "$part"
NO_RANGES=1 run 0 curl tinystories
there train.txt tinystories/train.txt
calls curl 2
mv "$t/data/tinystories/train.txt" "$part"
run 0 curl tinystories
calls curl 0
there train.txt tinystories/train.txt
rm "$t/data/tinystories/train.txt"
head -c 1000 "$t/server/train.txt" > "$part"
run 0 wget tinystories
calls "wget -c -O $part" 1
there train.txt tinystories/train.txt

# another file: on the server, in what is there of it, in the way
rm "$t/data/tinystories/train.txt"
head -c 1000 /dev/zero > "$part"
run 1 curl tinystories
says "has checksum sha256:"
[ ! -e "$part" ] && [ ! -e "$t/data/tinystories/train.txt" ]
result $? "a wrong file stays"
echo more >> "$t/server/train.txt"
run 1 curl tinystories
says "bytes, not"
echo mine > "$t/data/tinystories/train.txt"
run 1 curl tinystories
says "train.txt is another file: has 5 bytes"
calls curl 0
[ "$(cat "$t/data/tinystories/train.txt")" = mine ]
result $? "a file of somebody's was overwritten"

# archives
if command -v python3 > /dev/null && command -v sha1sum > /dev/null; then
    (cd "$t/server" && python3 -c '
import zipfile
with zipfile.ZipFile("filter_data.zip", "w") as z:
    for name in "blimp_filtered/ellipsis", "blimp_filtered/binding", "glue_filtered/rte.train", "glue_filtered/rte.validation":
        z.writestr("filter-data/%s.json" % name, "{\"in\": \"%s\"}\n" % name)
        z.writestr("__MACOSX/filter-data/%s/._%s.json" % tuple(name.split("/")), "x")
with zipfile.ZipFile("BLiMP.zip", "w") as z:
    for uid, kind in ("a_1", "s-selection"), ("a_2", "s-selection"), ("b_1", "npi_licensing"):
        z.writestr("data/%s.jsonl" % uid, 3 * ("{\"UID\": \"%s\", \"linguistics_term\": \"%s\", \"pairID\": \"0\"}\n" % (uid, kind)))
        z.writestr("__MACOSX/data/._%s.jsonl" % uid, "x")
')
    git=$({ printf 'blob %d\000' "$(bytes filter_data.zip)"; cat "$t/server/filter_data.zip"; } | sha1sum | cut -d ' ' -f 1)
    if command -v git > /dev/null; then
        [ "$(git hash-object "$t/server/filter_data.zip")" = "$git" ]
        result $? "git's name of a file is something else"
    fi
    run 1 curl blimp glue                                   # git:0
    says "has checksum git:$git, not git:0"
    says "$t/data/glue needs filter_data.zip"
    calls curl 1
    sed -i.old "s/git:0/git:$git/; s/sha256:0/sha256:$(sha BLiMP.zip)/" "$t/sources"
    run 0 curl blimp glue blimp-full
    calls curl 2
    says "make reproduce PAIRS=$t/data/blimp GLUE=$t/data/glue PAIRS=$t/data/blimp-full"
    [ "$(cd "$t/data" && find blimp glue blimp-full -type f | sort | tr '\n' ' ')" = "blimp-full/npi_licensing.json blimp-full/s-selection.json blimp/binding.json blimp/ellipsis.json glue/rte.train.json glue/rte.validation.json " ]
    result $? "unpacked: $(cd "$t/data" && find blimp glue blimp-full -type f)"
    [ "$(wc -l < "$t/data/blimp-full/s-selection.json")" -eq 6 ] && grep -q '"in": "blimp_filtered/ellipsis"' "$t/data/blimp/ellipsis.json"
    result $? "unpacked: other contents"
    [ -z "$(find "$t/data" -name 'unpacked*')" ]
    result $? "a folder of unpacked files stays"
    run 0 curl glue
    calls curl 0
    echo junk > "$t/data/filter_data.zip"
    sed -i.old "s/git:$git/-/" "$t/sources"
    run 1 curl glue
    says "filter_data.zip is not unpacked"
else skip "the archives: no python3, or no sha1sum"; fi

# the real thing, with the real curl, which also reads files
if command -v curl > /dev/null; then
    ln -s "$(command -v curl)" "$t/tools/curl"
    cp "$t/server/valid.txt" "$t/valid.txt"
    sed "s,^tinystories/train.txt.*,tinystories/train.txt $(bytes train.txt) sha256:$(sha train.txt) file://$t/server/train.txt,; s,stub:,file://," "$t/sources" > "$t/files"
    mv "$t/files" "$t/sources"
    rm -r "$t/data/tinystories"
    mkdir "$t/data/tinystories"
    head -c 1000 "$t/server/train.txt" > "$part"
    run 0 none tinystories
    there train.txt tinystories/train.txt
    there valid.txt tinystories/valid.txt
    rm "$t/data/tinystories/valid.txt" "$t/server/valid.txt"
    run 1 none tinystories
    says "valid.txt is missing: curl failed with exit code 37"
else skip "the real curl: not installed"; fi

line="data: $passed passed, $failed failed"
[ $skipped -gt 0 ] && line="$line, $skipped skipped"
echo "$line"
[ $failed -eq 0 ]
