#!/bin/sh
# The README's pictures, from what `make reproduce`, heatmaps and groups left in a folder: tools/make_pictures.sh [out]
# Needs chromium. Writes examples/pictures/*.png.
set -e
out=$(cd "${1:-out}" && pwd)
mkdir -p examples/pictures
pictures=$(cd examples/pictures && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

picture() {     # picture NAME FILE WIDTH HEIGHT
    chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$work/profile" \
        --window-size="$3,$4" --screenshot="$pictures/$1.png" "file://$2" > /dev/null 2>&1
    echo "examples/pictures/$1.png"
}
chapter() {     # chapter NAME ID HEIGHT: one of the report's, from its title down to its table
    awk -v id="id=\"$2\"" '/<main>/ { print; head = 1 } !head { print } /<h2/ { on = index($0, id) > 0 } /class="full"/ { on = 0 } head && on { print }' \
        "$out/report.html" > "$work/$1.html"
    picture "$1" "$work/$1.html" 1200 "$3"
}
chapter report-rq1 rq0 1150
chapter report-rq2 rq2 1150
picture heatmaps "$out/heatmaps.svg" 690 690
picture groups "$out/groups.svg" 820 592
