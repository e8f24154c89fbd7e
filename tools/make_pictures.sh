#!/bin/sh
# The README's pictures, from what `make reproduce` and two examples left in a folder: tools/make_pictures.sh [out]
# Needs chromium. Writes examples/pictures/*.png.
set -e
out=$(cd "${1:-out}" && pwd)
mkdir -p examples/pictures
pictures=$(cd examples/pictures && pwd)
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT

picture() {     # picture NAME URL WIDTH HEIGHT
    chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$profile" --virtual-time-budget=2000 \
        --window-size="$3,$4" --screenshot="$pictures/$1.png" "$2" > /dev/null 2>&1
    echo "examples/pictures/$1.png"
}
picture report-rq1 "file://$out/report.html#rq1_1" 1200 1000
picture report-rq2 "file://$out/report.html#rq2" 1200 1000
picture heatmaps "file://$out/heatmaps.svg" 1200 700
picture groups "file://$out/groups.svg" 1000 420
