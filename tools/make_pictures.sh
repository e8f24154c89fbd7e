#!/bin/sh
# The README's pictures, from what `make reproduce`, heatmaps and groups left in a folder: tools/make_pictures.sh [out]
# Needs chromium. Writes examples/pictures/*.png.
set -e
out=$(cd "${1:-out}" && pwd)
mkdir -p examples/pictures
pictures=$(cd examples/pictures && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

browser() {
    chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$work/profile" "$@" 2> /dev/null
}
picture() {     # picture NAME FILE WIDTH HEIGHT
    browser --window-size="$3,$4" --screenshot="$pictures/$1.png" "file://$2" > /dev/null
    echo "examples/pictures/$1.png"
}
chapter() {     # chapter NAME ID: one of the report's, from its title down to its table, as high as it is
    awk -v id="id=\"$2\"" '/<main>/ { print; head = 1 } !head { print } /<h2/ { on = index($0, id) > 0 }
        /<h3>Table/ { on = 0 } head && on { print }' "$out/report.html" > "$work/$1.html"
    cp "$work/$1.html" "$work/high.html"
    echo '<script>document.title = "height " + document.querySelector("main").offsetHeight</script>' >> "$work/high.html"
    high=$(browser --window-size=1200,400 --dump-dom "file://$work/high.html" |
        sed -n 's/.*<title>height \([0-9]*\)<.*/\1/p')
    picture "$1" "$work/$1.html" 1200 "${high:-1200}"
}
chapter report-rq1 rq0
chapter report-rq2 rq2
picture heatmaps "$out/heatmaps.svg" 690 690
picture groups "$out/groups.svg" 820 592
