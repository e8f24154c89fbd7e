#!/bin/sh
# tools/get_data.sh [DIR] [WHAT ..]: fetches what the published study trained and judged its models on, and lays it out as
# `make reproduce` takes it, in DIR (default: out/data). WHAT is any of
#
#   tinystories   DIR/tinystories/train.txt and valid.txt, 1.9 GB: 2.1 million stories with a line <|endoftext|> between them
#                 (Eldan and Li 2023, CDLA-Sharing-1.0)
#   blimp         DIR/blimp/KIND.json: BLiMP as the BabyLM 2023 evaluation filters it, 12 kinds of minimal pairs
#   glue          DIR/glue/TASK.train.json and TASK.validation.json: (Super)GLUE as that evaluation filters it
#   blimp-full    DIR/blimp-full/KIND.json: all 67,000 pairs (Warstadt et al. 2020, CC BY 4.0), of 13 kinds
#
# and the first three where none is named. It needs curl or wget, and unzip, bsdtar or python3. What is there already, whole
# and right, is not fetched again; what was cut off goes on where it stopped. Where a file cannot be fetched it says which
# address to fetch by hand and where to put it, goes on with the others, and ends with exit code 1.
#
# SOURCES=file takes other addresses, sizes and checksums than those below, say a mirror's.
LC_ALL=C
export LC_ALL

# File under DIR, bytes, checksum, address; - for what is not known. TinyStories: as several projects that pin this revision
# note them. filter_data.zip: git's name of the file in that commit. BLiMP.zip: counted from that commit.
sources() {
    if [ -n "$SOURCES" ]; then cat "$SOURCES"; return; fi
    stories=https://huggingface.co/datasets/roneneldan/TinyStories/resolve/f54c09fd23315a6f9c86f9dc80f725de7d8f9c64
    cat << END
tinystories/train.txt 1924281556 \
sha256:c5cf5e22ff13614e830afbe61a99fbcbe8bcb7dd72252b989fa1117a368d401f $stories/TinyStories-train.txt
tinystories/valid.txt 19447282 \
sha256:94e431816c4cce81ff71e4408ff8d3bda9a42e8d2663986697c3954288cb38b4 $stories/TinyStories-valid.txt
filter_data.zip - git:86b8cb0880d8c919a7cdb3eb3a40d602b0a4372b \
https://github.com/babylm/evaluation-pipeline-2023/raw/17b3806376fa90c24653efe0c6c571adfb6a72c7/filter_data.zip
BLiMP.zip 2354164 sha256:172a1a714d72e72a89e8384dd531483f3d0f8a9aee3d33dccaf7992d8cecbb73 \
https://github.com/alexwarstadt/blimp/raw/3e56b06fcabca9b30822fc66435fca6b1aa40bb1/BLiMP.zip
END
}

has() { command -v "$1" > /dev/null 2>&1; }
say() { echo "get_data.sh: $*" >&2; }
size() { echo $(($(wc -c < "$1"))); }

digest() {      # digest 1|256: SHA of standard input; nothing where no program computes it
    if has "sha${1}sum"; then "sha${1}sum" | cut -d ' ' -f 1
    elif has shasum; then shasum -a "$1" | cut -d ' ' -f 1
    elif has openssl; then openssl dgst "-sha$1" | sed 's/.* //'
    else cat > /dev/null; fi
}

# wrong PATH BYTES CHECKSUM: says what is wrong with a file, if anything; what could not be checked goes to standard error.
# Fails where neither size nor checksum could be.
wrong() {
    if [ "$2" != - ] && [ "$(size "$1")" -ne "$2" ]; then echo "has $(size "$1") bytes, not $2"; return; fi
    case $3 in
    sha256:*) have=$(digest 256 < "$1") ;;
    git:*) have=$({ printf 'blob %d\000' "$(size "$1")"; cat "$1"; } | digest 1) ;;
    *) say "$1: its checksum is not known"; [ "$2" != - ]; return ;;
    esac
    if [ -z "$have" ]; then
        say "$1: not checked: there is no program for SHA, such as sha256sum"
        [ "$2" != - ]
    elif [ "$have" != "${3#*:}" ]; then echo "has checksum ${3%%:*}:$have, not $3"; fi
}

by_hand() {     # by_hand PATH ADDRESS WHY
    say "$1 is missing: $3"
    {
        echo "  By hand: fetch       $2"
        echo "           put it at   $1"
        echo "           and run this again: what is there is not fetched again."
    } >&2
}

download() {    # download PART ADDRESS: with what is there of it already
    if has curl; then
        if [ -s "$1" ]; then
            curl -fL -C - -o "$1" "$2"
            code=$?
            [ $code -eq 33 ] || return $code                # 33: the server cannot go on in the middle
            rm -f "$1"
        fi
        curl -fL -o "$1" "$2"
    else wget -c -O "$1" "$2"; fi
}

fetch() {       # fetch FILE: it is there afterwards, whole and right; or it is said what to do
    read -r file bytes sum address << END
$(sources | awk -v file="$1" '$1 == file')
END
    if [ -z "$address" ]; then say "$1: SOURCES=$SOURCES has no address for it"; return 1; fi
    path=$dir/$file part=$dir/$file.part
    mkdir -p "$(dirname "$path")" || return 1
    if [ -e "$path" ]; then                                 # nobody's own file is overwritten
        bad=$(wrong "$path" "$bytes" "$sum")
        if [ -z "$bad" ]; then echo "$path: there already"; return 0; fi
        say "$path is another file: $bad. Move it away, or name another DIR"
        return 1
    fi
    if [ -e "$part" ]; then                                 # whole, only not named yet? too long? else it goes on from there
        bad=$(wrong "$part" "$bytes" "$sum" 2> /dev/null) || rm -f "$part"
        if [ -n "$bad" ] && [ "$bytes" != - ] && [ "$(size "$part")" -ge "$bytes" ]; then rm -f "$part"; fi
    fi
    if [ ! -e "$part" ] || [ -n "$bad" ]; then
        if ! has curl && ! has wget; then by_hand "$path" "$address" "there is neither curl nor wget"; return 1; fi
        echo "$path: fetching $address"
        download "$part" "$address"
        code=$?
        if [ $code -ne 0 ]; then
            if has curl; then tool=curl; else tool=wget; fi
            [ -s "$part" ] || rm -f "$part"
            why="$tool failed with exit code $code"
            [ ! -e "$part" ] || why="$why; another run goes on from the $(size "$part") bytes that came"
            by_hand "$path" "$address" "$why"
            return 1
        fi
        bad=$(wrong "$part" "$bytes" "$sum")
        if [ -n "$bad" ]; then
            rm -f "$part"
            by_hand "$path" "$address" "what came $bad, and was removed"
            return 1
        fi
    fi
    mv "$part" "$path" && echo "$path: fetched"
}

unpack() {      # unpack ZIP FOLDER
    rm -rf "$2"
    mkdir -p "$2" || return 1
    if has unzip; then unzip -q -o "$1" -d "$2" || [ $? -eq 1 ]             # 1: a warning
    elif has bsdtar; then bsdtar -xf "$1" -C "$2"
    elif has python3; then python3 -m zipfile -e "$1" "$2"
    else say "there is neither unzip nor bsdtar nor python3"; false; fi && return
    say "$1 is not unpacked"
    return 1
}

take() {        # take FOLDER NAME: its .json files as DIR/NAME
    if [ -z "$1" ] || [ -z "$(find "$1" -name '[!.]*.json')" ]; then
        say "$dir/$2: none of its files is in the .zip"
        return 1
    fi
    mkdir -p "$dir/$2" && cp "$1"/*.json "$dir/$2" && echo "$dir/$2: $(find "$dir/$2" -name '*.json' | wc -l) files"
}

babylm=
filtered() {    # filtered NAME: a folder of filter_data.zip
    if [ -z "$babylm" ]; then
        babylm=missing
        fetch filter_data.zip && unpack "$dir/filter_data.zip" "$new/babylm" && babylm=there
    fi
    if [ $babylm = missing ]; then say "$dir/$1 needs filter_data.zip"; return 1; fi
    take "$(find "$new/babylm" -type d -name "$1_filtered" ! -path '*__MACOSX*' | head -n 1)" "$1"
}

full() {        # the 67 files of BLiMP.zip, by their linguistics_term
    fetch BLiMP.zip && unpack "$dir/BLiMP.zip" "$new/blimp" && mkdir -p "$new/kinds" || return 1
    find "$new/blimp" -name '[!.]*.jsonl' ! -path '*__MACOSX*' | sort | while IFS= read -r f; do cat "$f"; done |
        awk -v to="$new/kinds/" 'match($0, /"linguistics_term": *"[-a-z_]*"/) {
            kind = substr($0, RSTART, RLENGTH - 1); sub(/.*"/, "", kind); print > (to kind ".json") }'
    take "$new/kinds" blimp-full
}

case $1 in -h|--help) sed -n '2,/^LC_ALL/s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
dir=out/data
case $1 in ""|tinystories|blimp|glue|blimp-full) ;; *) dir=$1; shift ;; esac
[ $# -gt 0 ] || set -- tinystories blimp glue
for what in "$@"; do
    case $what in tinystories|blimp|glue|blimp-full) ;;
    *) say "'$what' is none of tinystories, blimp, glue, blimp-full; --help tells more"; exit 2 ;; esac
done
mkdir -p "$dir" || exit 1
new=$dir/unpacked.$$
trap 'rm -rf "$new"' EXIT
trap 'exit 130' INT TERM
failed=0 settings=
for what in "$@"; do
    case $what in
    tinystories)
        fetch tinystories/train.txt; train=$?
        fetch tinystories/valid.txt && [ $train -eq 0 ] && settings="$settings DATA=$dir/tinystories" || failed=1 ;;
    blimp) filtered blimp && settings="$settings PAIRS=$dir/blimp" || failed=1 ;;
    glue) filtered glue && settings="$settings GLUE=$dir/glue" || failed=1 ;;
    blimp-full) full && settings="$settings PAIRS=$dir/blimp-full" || failed=1 ;;
    esac
done
[ -z "$settings" ] || echo "make reproduce$settings"
exit $failed
