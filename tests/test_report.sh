#!/bin/sh
# tests/test_report.sh [build/examples/report]: the judgement that the report comes to, from files whose verdicts are known by
# hand, and a page from any of them. BROWSER=1: the page in a browser too, also of the directories named after the program.
LC_ALL=C
export LC_ALL
report=$(cd "$(dirname "${1:-build/examples/report}")" && pwd)/$(basename "${1:-build/examples/report}")
t=$(mktemp -d)
trap 'rm -rf "$t"' EXIT
passed=0 failed=0 skipped=0
result() { if [ "$1" -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $2"; fi; }

# ---- files

ones="1 1 1 1 1 1 1 1 1"
columns=variant,label,heads,group_proportion,kqv_proportion,loss_seeds,pairs_seeds,ratio_b16_turns,ratio_b512_turns,glue_seeds
begin() { name=$1; rm -rf "${t:?}/$name"; mkdir "$t/$name"; }
file() { into=$t/$name/$1.csv; echo "$columns" > "$into"; }
row() {         # row LABEL HEADS G/H S/C LOSS PAIRS TURNS_16 TURNS_512 [GLUE]: lists in quotes
    echo "\"$(echo "$1" | tr 'A-Z, /' 'a-z---')\",\"$1\",$2,$3,$4,$5,$6,$7,$8,$9" >> "$into"
}
judged() { "$report" "$t/$name" > "$t/$name/said" 2>&1; result $? "$name: the report ended with an error: $(tail -n 1 "$t/$name/said")"; }
verdict() {     # verdict KEY WORDS: of an observation
    grep -q "^$2 *($1) " "$t/$name/said"
    result $? "$name: ($1) is not: $2; but: $(grep "($1) " "$t/$name/said")"
}
says() { grep -q -e "$1" "$t/$name/said"; result $? "$name: it does not say: $1"; }
around() {      # around X: nine turns about X
    echo "$1" | awk '{ for (i = 0; i < 9; i++) printf "%s%.4f", i ? " " : "", $1 * (1 + (i % 3 - 1) / 200); print "" }'
}

# ---- everything as published, and everything the other way round

# direction D: 1 as published, -1 the other way. Seeds differ by 10 and more, their differences by little.
study() {
    begin "$1"; d=$2
    seeds() { echo "$1 $d" | awk '{ x = $1 * $2; printf "%.3f %.3f %.3f", 20 + x, 30 + x + .01, 10 + x - .01 }'; }
    paced() { if [ "$d" = 1 ]; then around "$1"; else around "$(echo "$1" | awk '{ print 1 / $1 }')"; fi; }
    file rq1_1
    row MHA 8 1 1 "20 30 10" "20 30 10" "$ones" "$ones" "20 30 10"
    for i in 1:.75 2:.5 3:.25 4:.125; do
        k=${i%:*}
        row "GQA ${i#*:}" 8 "${i#*:}" 1 "$(seeds "$k")" "$(seeds -"$k")" "$(paced "$(echo "$k" | awk '{ print 1.1 - $1 / 5 }')")" \
            "$(paced "$(echo "$k" | awk '{ print 1 - $1 / 8 }')")" "$(seeds -"$k")"
    done
    file rq1_2
    for h in 4:3 8:2 16:1; do
        row "MHA, ${h%:*} heads" "${h%:*}" 1 1 "20 30 10" "20 30 10" "$ones" "$ones"
        row "GQA .75, ${h%:*} heads" "${h%:*}" .75 1 "$(seeds "${h#*:}")" "$(seeds -"${h#*:}")" "$ones" "$ones"
    done
    file rq2
    for i in 4:.75 3:.5 2:.25 1:.125; do
        k=${i%:*}
        row "GQA ${i#*:}" 8 "${i#*:}" 1 "20 30 10" "20 30 10" "$ones" "$ones"
        row "KQV ${i#*:}" 8 1 "${i#*:}" "$(seeds "$k")" "$(seeds -"$k")" "$(paced "$(echo "$k" | awk '{ print 1 - $1 / 8 }')")" \
            "$(paced "$(echo "$k" | awk '{ print 1 - $1 / 8 }')")"
    done
    file rq3
    row "GQA .25" 8 .25 1 "20 30 10" "20 30 10" "$ones" "$ones"
    row "COMBINED .5/.5" 8 .5 .5 "$(seeds 1)" "$(seeds -1)" "$(paced .8)" "$(paced .8)"
    row "KQV .25" 8 1 .25 "$3" "$4" "$(around .6)" "$(around .6)"
    judged
}
study published 1 "22 32 12" "18 28 8"
for key in a b c d; do verdict $key supports; done
says "observations this run supports 4, contradicts 1, and cannot tell of 0"
verdict e contradicts                                       # .9, .7, .5, .3 of MHA's time at 16 sequences
says "supports *GLUE: GQA .125 against MHA .*4.0 points"
study reversed -1 "22 32 12" "18 28 8"
for key in a b c d; do verdict $key contradicts; done
verdict e supports
says "COMBINED\|combination does not lie between"

# ---- where clear begins: for two variants that are alone Student's t of 99.5 %, 14.089 / sqrt(3) = 8.134 sd of the differences
# for three seeds, 127.32 / sqrt(2) = 90.03 sd for two

ends() {        # ends NAME LOSS_MHA LOSS_GQA TURNS: question 1.1 from two variants
    begin "$1"; file rq1_1
    row MHA 8 1 1 "$2" "" "$5" "$5"
    row "GQA .125" 8 .125 1 "$3" "" "$4" "$4"
    judged
}
ends three-below "1 2 3" "8.1 10.1 12.1" "$(around .5)" "$ones"    # differences 7.1 8.1 9.1: 8.1 sd
verdict a "cannot tell"; says "+8.100 (.*0.034 to +16.234; 3 seeds: not clear)"
ends three-above "1 2 3" "8.2 10.2 12.2" "$(around .5)" "$ones"    # 8.2 sd
verdict a supports; says "+8.200 (+0.066 to +16.334; 3 seeds)"
ends two-below "1 2" "125 128" "$(around .5)" "$ones"              # 124 and 126: 88 sd
verdict a "cannot tell"
ends two-above "1 2" "133 136" "$(around .5)" "$ones"              # 132 and 134: 94 sd
verdict a supports
ends better "1 2 3" "0.5 1.5 2.5" "$(around .5)" "$ones"
verdict a contradicts
ends one-seed "1" "9" "$(around .5)" "$ones"
verdict a "cannot tell"; says "1 seed: too few"
ends missing-seed "1 2 3" "2 3" "$(around .5)" "$ones"
verdict a "cannot tell"; says "cannot be paired"
ends diverged "1 2 3" "9 nan 9" "$(around .5)" "$ones"
verdict a "cannot tell"
ends no-seeds "" "" "$(around .5)" "$ones"
verdict a "cannot tell"; says "quality: not measured"

# The noise of a run is that of all variants: residuals with a column for each variant and seed (NumPy's lstsq) of sd 0.7949,
# 6 degrees of freedom, t 4.317, which reaches 4.317 * 0.7949 * sqrt(2 / 3) = 2.802. MHA and GQA .125 alone, whose differences
# happen to be equal, would claim anything.
noisy() {       # noisy NAME GQA_.125
    begin "$1"; file rq1_1
    row MHA 8 1 1 "1 2 3" "" "$ones" "$ones"
    row "GQA .5" 8 .5 1 "2 4 2.5" "" "$(around .7)" "$(around .7)"
    row "GQA .25" 8 .25 1 "3 2.5 4.5" "" "$(around .6)" "$(around .6)"
    row "GQA .125" 8 .125 1 "$2" "" "$(around .5)" "$(around .5)"
    judged
}
noisy noise-below "3.7 4.7 5.7"
verdict a "cannot tell"; says "+2.700 (.*0.102 to +5.502; 3 seeds: not clear)"
noisy noise-above "3.9 4.9 5.9"
verdict a supports; says "+2.900 (+0.098 to +5.702; 3 seeds)"
begin unequal; file rq1_1                                   # one has a seed more: it tells nothing of noise
row MHA 8 1 1 "1 2 3" "" "$ones" "$ones"
row "GQA .5" 8 .5 1 "2 4 2.5 9" "" "$(around .7)" "$(around .7)"
row "GQA .125" 8 .125 1 "8.2 10.2 12.2" "" "$(around .5)" "$(around .5)"
judged; verdict a supports; says "GQA .125 against MHA +8.200 (+3.382 to +13.018; 3 seeds)"

begin again; file rq1_1                                     # the same row twice is no more evidence
for i in 1 2; do
    row MHA 8 1 1 "1 2 3" "" "$ones" "$ones"
    row "GQA .125" 8 .125 1 "3 4.6 5.4" "" "$(around .5)" "$(around .5)"
done
judged; verdict a "cannot tell"
begin many; file rq1_1
row MHA 8 1 1 "$(seq -s ' ' 33)" "" "$ones" "$ones"
"$report" "$t/many" > "$t/many/said" 2>&1
[ $? -eq 1 ] && grep -q 'row 2: loss_seeds has more than 32 numbers' "$t/many/said"
result $? "33 seeds are cut"

# Times: all of nine turns, the second smallest to the second largest of thirteen; nine turns at least.
thirteen="1 1 1 1 $ones"
ends nine "1 2 3" "2 3 4" ".5 .6 .5 .6 .5 .6 .5 .6 .9" "$ones"
verdict a supports
ends nine-one-out "1 2 3" "2 3 4" ".5 .6 .5 .6 .5 .6 .5 .6 1.5" "$ones"
verdict a "cannot tell"
ends thirteen-one-out "1 2 3" "2 3 4" ".5 .6 .5 .6 .5 .6 .5 .6 .5 .6 .5 .6 1.5" "$thirteen"
verdict a supports
ends thirteen-two-out "1 2 3" "2 3 4" ".5 .6 .5 .6 .5 .6 .5 .6 .5 .6 .5 1.5 1.5" "$thirteen"
verdict a "cannot tell"
ends eight-turns "1 2 3" "2 3 4" ".5 .6 .5 .6 .5 .6 .5 .6" "1 1 1 1 1 1 1 1"
verdict a "cannot tell"; says "8 turns: too few"
ends slower "1 2 3" "2 3 4" "1.5 1.6 1.5 1.6 1.5 1.6 1.5 1.6 1.5" "$ones"
verdict a contradicts

# ---- what takes a claim away

trend() {       # trend NAME LOSS_.5 PAIRS_.125: MHA 1, GQA .125 at 2
    begin "$1"; file rq1_1
    row MHA 8 1 1 "1 1 1" "50 50 50" "$ones" "$ones"
    row "GQA .5" 8 .5 1 "$2" "" "$(around .8)" "$(around .8)"
    row "GQA .125" 8 .125 1 "3 3.1 2.9" "$3" "$(around .5)" "$(around .5)"
    judged
}
trend steady "2 2.1 1.9" "50 51 49"
verdict a supports; says "of 2 other pairs 2 clear as claimed, 0 the other way"
trend hollow "4 4.1 3.9" "50 51 49"                         # .5 is worse than .125, clearly
verdict a "cannot tell"; says "1 the other way"
trend above "3.2 3.3 3.1" "50 51 49"                        # it is worse, but not clearly: takes nothing away
verdict a supports
trend blurred "3 6 0" "50 51 49"                            # one is anywhere: so may be the others
verdict a "cannot tell"
trend disagree "2 2.1 1.9" "70 71 69"                       # more pairs right, clearly
verdict a "cannot tell"

begin mixed; file rq2                                       # KQV faster on average, but clearly slower at .125
for p in .75:.5 .5:.5 .25:.5 .125:1.2; do
    row "GQA ${p%:*}" 8 "${p%:*}" 1 "1 1 1" "" "$ones" "$ones"
    row "KQV ${p%:*}" 8 1 "${p%:*}" "2 2.1 1.9" "" "$(around "${p#*:}")" "$(around "${p#*:}")"
done
judged; verdict c "cannot tell"

gap() {         # gap WORD D_75 D_125 VERDICT: KQV's loss less GQA's; KQV is better all along
    begin "$1"; file rq2
    for p in ".75 $2" ".125 $3"; do
        row "GQA ${p% *}" 8 "${p% *}" 1 "1 1 1" "" "$ones" "$ones"
        row "KQV ${p% *}" 8 1 "${p% *}" "$(echo "${p#* }" | awk '{ print 1 + $1, 1.01 + $1, .99 + $1 }')" "" "$ones" "$ones"
    done
    judged; says "^ *$4 *quality, difference at low proportions"; says "the difference in quality $1"
}
gap grows -.1 -.5 contradicts
gap shrinks -.5 -.1 supports
gap grows -.1 .5 contradicts                                # and to the other side
gap "shrinks cannot be told" -.3 .3 "cannot tell"; says "positive or negative is not clear"

begin inside; file rq3                                      # clear of one end only
row "GQA .25" 8 .25 1 "1 1 1" "" "$ones" "$ones"
row "COMBINED .5/.5" 8 .5 .5 "3 3.1 2.9" "" "$(around .8)" "$(around .8)"
row "KQV .25" 8 1 .25 "3 3.4 2.8" "" "$(around .6)" "$(around .6)"
judged; verdict d "cannot tell"; says "The combination lies between them in speed; where"

# ---- files that lack columns, or are not there

begin columns
printf 'variant,label,heads,group_proportion\nmha-8,MHA,8,1\ngqa-8-.125,GQA .125,8,.125\n' > "$t/columns/rq1_1.csv"
judged
for key in a b c d e; do verdict $key "cannot tell"; done
begin nothing
"$report" "$t/nothing" > "$t/nothing/said" 2>&1
[ $? -eq 1 ] && grep -q 'no rq1_1.csv' "$t/nothing/said"
result $? "an empty directory is reported on"

for page in "$t"/*/report.html; do
    grep -q 'says of the published observations' "$page" && grep -q '^</html>\|</body></html>' "$page"
    result $? "$page is not whole"
done

# ---- the page in a browser: BROWSER=1, as make check-long does; directories given after the program are looked at as well.
# Leaves its pictures in build/report.

# everything that a page may have: the study as published, with times, curves, pairs, GLUE and stories
everything() {
    begin everything; columns=$columns,kv_heads,kqv_size,ffn,params,kv_bytes_per_token,seeds,loss_mean,loss_sd,ppl_mean
    columns=$columns,pairs_mean,pairs_sd,glue_mean,glue_sd,us_b16,us_b512,limit_us_b16,limit_us_b512,limit_ratio_b16
    columns=$columns,limit_ratio_b512,limit_attention_us_b16,limit_attention_us_b512,pub_ffn,pub_blimp,pub_glue,pub_us_b16,pub_us_b512
    for q in rq1_1 rq1_2 rq2 rq3; do
        awk -F'|' -v q=$q -v columns="$columns" '
        function three(x, d) { return sprintf("%.4f %.4f %.4f", x, x + d, x - d * 1.2) }
        function nine(x, i) { s = ""; for (i = 0; i < 9; i++) s = s (i ? " " : "") sprintf("%.4f", x * (1 + (i % 3 - 1) / 30)); return s }
        BEGIN { print columns }
        index($1, q) {
            cache = $4 * $5; loss = 1 + .1 * (1 - cache) + ($3 == 16 ? .02 : 0); t = $2 ~ /^MHA/ ? 1 : .3 + .7 * cache
            print "v" $3 "-" $4 "-" $5 ",\"" $2 "\"," $3 "," $4 "," $5 "," three(loss, .01 + cache / 60) "," three(50 + 20 * cache, 1.5) "," \
                nine(t) "," nine(t * .97) "," three(45 + 15 * cache, 2) "," $3 * $4 "," 384 * $5 "," $6 ",6796544," 6144 * cache ",3," loss ",.01," \
                exp(loss) "," 50 + 20 * cache ",1.5," 45 + 15 * cache ",2," 110 * t "," 120 * t "," 70 * t "," 60 * t "," t "," t ",30,40," $6 "," $7 "," $8 "," \
                $9 "," $10
        }' > "$t/everything/$q.csv" << 'END'
rq1_1 rq1_2 rq2 rq3|MHA|8|1|1|1024|57.5|61.6|136.67|17.31
rq1_1 rq1_2 rq2|GQA .75|8|.75|1|1120|55.8|60.9|225.66|14.32
rq1_1 rq2|GQA .5|8|.5|1|1216|56.7|59.1|212.16|11.90
rq1_1 rq2 rq3|GQA .25|8|.25|1|1312|55.4|60.1|176.69|10.42
rq1_1 rq2|GQA .125|8|.125|1|1360|56.0|58.7|158.22|9.31
rq1_2|MHA, 4 heads|4|1|1|1024|58.1|61.2||
rq1_2|MHA, 16 heads|16|1|1|1024|54.1|59.5||
rq1_2|GQA .75, 4 heads|4|.75|1|1120|56.8|59.1||
rq1_2|GQA .75, 16 heads|16|.75|1|1120|53.4|58.8||
rq2|KQV .75|8|1|.75|1216|55.9|60.4|135.19|11.82
rq2|KQV .5|8|1|.5|1408|53.5|60.5|133.51|7.48
rq2 rq3|KQV .25|8|1|.25|1600|53.9|56.6|134.44|6.47
rq2|KQV .125|8|1|.125|1696|50.3|56.1|134.15|5.99
rq3|COMBINED .5/.5|8|.5|.5|1504|54.5|58.5|207.79|9.01
END
    done
    cat "$t"/everything/rq*.csv | awk -F, -v dir="$t/everything" '
    BEGIN {
        print "variant,label,seed,step,tokens,train_loss,valid_loss" > (dir "/curves.csv"); print "variant,seed,kind,accuracy" > (dir "/pairs.csv")
        print "variant,seed,task,metric,score,majority" > (dir "/glue.csv"); print "variant,label,seed,text" > (dir "/samples.csv")
        print "key,value\n\"machine\",\"a <machine> & \"\"more\"\"\"\n\"seeds\",\"3\"" > (dir "/settings.csv")
    }
    $1 == "variant" || $1 in seen { next }
    {
        seen[$1] = 1; n++; match($0, /"[^"]*"/); label = substr($0, RSTART, RLENGTH)
        for (s = 1; s <= 3; s++) {
            for (i = 1; i <= 20; i++) print $1 "," label "," s "," 100 * i "," 1e4 * i ",2," 1 + n / 100 + s / 70 + 2 / i > (dir "/curves.csv")
            for (k = 1; k <= 5; k++) print $1 "," s ",a_kind_of_pair_" k "," .55 + k / 20 + s / 100 - n / 300 > (dir "/pairs.csv")
            for (k = 1; k <= 3; k++) print $1 "," s ",task" k ",accuracy," 50 + 5 * k + s - n / 3 "," 50 + 4 * k > (dir "/glue.csv")
            print $1 "," label "," s ",\"Once upon a time " (n % 2 ? "Tim <saw>" : "Ann & Tom ate") " a \"\"tree\"\".\nThe end" n s ".\"" > (dir "/samples.csv")
        }
    }'
    judged
}
everything
verdict a supports
page=$t/everything/report.html
holds() { grep -q -e "$1" "$page"; result $? "the page does not hold: $1"; }
holds 'a &lt;machine&gt; &amp; &quot;more&quot;'            # what files say is text
holds '<b>Once upon a time </b>Tim &lt;saw&gt; a &quot;tree&quot;\.<br/>The end'
holds '<title>GQA \.5: held-out loss 1\.050 (seeds 1\.050, 1\.068, 1\.028), against MHA +0\.051 (+0\.030 to +0\.071; 3 seeds)</title>'
holds '<title>KQV \.25: FFN width at equal parameters, 1,600, published 1,600</title>'
holds '<title>majority: 54\.0 %</title>'
! grep -o 'class="missing">[^<]*\|>not measured<' "$page" > "$t/log"
result $? "the page misses something: $(head -n 1 "$t/log")"
for what in stories glue curves pairs shapes settings; do
    grep -q "id=\"$what\"" "$t/columns/report.html"
    result $? "a page without most files has no $what"
done

# Runs in a copy of the page, after its own script, and tells the page around it a line for each check.
cat > "$t/checks.js" << 'END'
setTimeout(function () {
    var said = [], root = document.documentElement, tip = document.getElementById('tip'), hot = document.querySelectorAll('.hot');
    function check(what, bad) { said.push((bad.length ? 'BAD ' : 'fine ') + what + ' ' + bad.slice(0, 4).join(' | ')); }
    function box(e) { var b = e.getBoundingClientRect(), h = b.height; return { x0: b.left + 1, x1: b.right - 1, y0: b.top + .24 * h, y1: b.bottom - .24 * h }; }
    var small = [], over = [], out = [];
    document.querySelectorAll('svg:not(.none)').forEach(function (svg) {
        var b = svg.getBoundingClientRect(), texts = Array.from(svg.querySelectorAll('text')), boxes = texts.map(box), i, k;
        if (!(b.width > 4 && b.height > 4)) small.push(svg.outerHTML.slice(0, 60));
        for (i = 0; i < boxes.length; i++) {
            if (boxes[i].x0 < b.left - 1 || boxes[i].x1 > b.right + 1 || boxes[i].y0 < b.top || boxes[i].y1 > b.bottom)
                out.push(svg.getAttribute('aria-label') + ': ' + texts[i].textContent);
            for (k = 0; k < i; k++)
                if (Math.min(boxes[i].x1, boxes[k].x1) > Math.max(boxes[i].x0, boxes[k].x0) && Math.min(boxes[i].y1, boxes[k].y1) > Math.max(boxes[i].y0, boxes[k].y0))
                    over.push(svg.getAttribute('aria-label') + ': ' + texts[k].textContent + ' / ' + texts[i].textContent);
        }
    });
    check('figures have a size', small);
    check('no text lies on another', over);
    check('no text leaves its figure', out);
    check('the page does not scroll sideways', root.scrollWidth > root.clientWidth ? [root.scrollWidth + ' of ' + root.clientWidth] : []);
    var wide = [];
    document.querySelectorAll('p,h1,h2,h3,h4,dd,dt,nav,.panel,.claim,.story').forEach(function (e) {
        if (e.getBoundingClientRect().right > root.clientWidth + 1) wide.push(e.textContent.slice(0, 40)); });
    check('nothing is cut off at the right', wide);
    function shows() { var b = tip.getBoundingClientRect();
        return getComputedStyle(tip).visibility === 'visible' && /\d/.test(tip.textContent) && b.left >= 0 && b.right <= root.clientWidth; }
    if (hot.length) {
        var silent = [];
        hot.forEach(function (g) {
            if (g.querySelector('title') || !g.getAttribute('aria-label')) silent.push('no label');
            g.dispatchEvent(new PointerEvent('pointerenter')); if (!shows()) silent.push('hover: ' + g.getAttribute('aria-label'));
            g.dispatchEvent(new PointerEvent('pointerleave')); if (shows()) silent.push('stays: ' + g.getAttribute('aria-label')); });
        check('pointing shows a value', silent);
        var first = hot[0], bad = [], second = first.closest('svg').querySelectorAll('.hot')[1];
        first.focus({ preventScroll: true }); if (document.activeElement !== first || !shows()) bad.push('focus');
        if (second) { first.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowRight' }));
            if (document.activeElement !== second || tip.textContent !== second.getAttribute('aria-label')) bad.push('arrow'); }
        check('the keyboard shows a value', bad);
    }
    var covered = [];                                       // marks of other variants may lie on a mark, nothing else
    document.querySelectorAll('svg').forEach(function (svg) {
        svg.querySelectorAll('.hot').forEach(function (g, i) {
            if (i % 5) return;
            svg.scrollIntoView({ block: 'center', inline: 'center' });
            var b = g.querySelector('.hit').getBoundingClientRect(), e = document.elementFromPoint(b.left + b.width / 2, b.top + b.height / 2);
            var f = svg.parentNode.getBoundingClientRect();
            if (b.left > f.left && b.right < f.right && !(e && e.closest('.hot'))) covered.push(g.getAttribute('aria-label')); }); });
    check('what one points at is on top', covered);
    scrollTo(0, 0);
    var button = document.getElementById('theme'), colour = function () { return getComputedStyle(document.body).backgroundColor; };
    var before = colour(), word = button.textContent, after;
    button.click(); after = colour(); button.click();
    check('the button changes light and dark', after !== before && colour() === before && word === button.textContent ? [] : [before, after, colour()]);
    check('it is ' + (window.wanted || 'light'), (parseInt(before.slice(4)) < 100) === (window.wanted === 'dark') ? [] : [before]);
    var ids = {}, twice = [];
    document.querySelectorAll('[id]').forEach(function (e) { if (ids[e.id]) twice.push(e.id); ids[e.id] = 1; });
    document.querySelectorAll('a[href]').forEach(function (a) { if (!ids[a.getAttribute('href').slice(1)]) twice.push(a.getAttribute('href')); });
    check('ids are single, links lead somewhere', twice);
    check('no requests', performance.getEntriesByType('resource').map(function (e) { return e.name; }));
    check('no errors', window.errors);
    parent.postMessage('\n' + said.join('\n') + '\nwidth ' + innerWidth + '\n', '*');
}, 300);
END
framed() {      # framed PAGE WIDTH HEIGHT: a page of that width, as windows cannot be as narrow
    echo "<!DOCTYPE html><body style='margin:0'><script>addEventListener('message',function(e){document.body.textContent=e.data;});</script>" \
         "<iframe src='file://$1' style='border:0;width:$2px;height:$3px'></iframe></body>" > "$t/frame.html"
}
browse() {      # browse NAME PAGE WIDTH [dark]: the checks in a copy; what they say, in $t/said
    {
        sed '/<meta charset/q' "$2"
        echo "<script>window.wanted='$4';window.errors=[];addEventListener('error',function(e){errors.push(String(e.message||e.target.src));},true);"
        echo "addEventListener('securitypolicyviolation',function(e){errors.push('blocked '+e.blockedURI);});console.error=function(x){errors.push(String(x));};</script>"
        sed '1,/<meta charset/d' "$2" | sed 's/<\/body>.*//'
        echo "<script>"; cat "$t/checks.js"; echo "</script></body></html>"
    } > "$t/copy.html"
    scheme=1; [ -n "$4" ] && scheme=0
    framed "$t/copy.html" "$3" 900
    $chromium --blink-settings=preferredColorScheme=$scheme --virtual-time-budget=4000 --enable-logging=stderr --dump-dom "file://$t/frame.html" 2> "$t/log" |
        sed 's/<[^>]*>//g' | grep '^BAD\|^fine\|^width' > "$t/said"
    grep -o 'CONSOLE.*' "$t/log" | sed 's/^/BAD console: /' >> "$t/said"
}
page_holds() {  # page_holds NAME PAGE WIDTH [dark]
    browse "$@"
    result "$(grep -q '^fine' "$t/said" && echo 0 || echo 1)" "$1 at $3 $4: the browser said nothing"
    grep -q "^width $3$" "$t/said"; result $? "$1: the window is $(grep '^width' "$t/said"), not $3"
    grep -c '^fine' "$t/said" > "$t/count"; passed=$((passed + $(cat "$t/count")))
    grep '^BAD' "$t/said" | sed "s/^/FAILED: $1 at $3 $4: /"
    failed=$((failed + $(grep -c '^BAD' "$t/said")))
    framed "$2" "$3" 3000
    $chromium --window-size="$3,3000" --blink-settings=preferredColorScheme=$scheme --screenshot="$pictures/$1-$3$4.png" "file://$t/frame.html" > /dev/null 2>&1
}
if [ -n "$BROWSER" ]; then
    shift
    if command -v xmllint > /dev/null; then
        for p in "$t"/*/report.html; do xmllint --noout "$p" > "$t/log" 2>&1; result $? "$p is not well-formed: $(head -n 1 "$t/log")"; done
    else echo "SKIPPED: well-formed pages: no xmllint"; skipped=$((skipped + 1)); fi
    ! grep -n 'https\{0,1\}://\|src=\|@import\|url([^#]' "$page" > "$t/log"
    result $? "the page names something outside: $(head -c 200 "$t/log")"
    browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
    if [ -n "$browser" ]; then
        pictures=build/report; mkdir -p $pictures; pictures=$(cd $pictures && pwd)
        chromium="$browser --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir=$t/profile"
        page_holds everything "$page" 1200
        page_holds everything "$page" 1200 dark
        page_holds everything "$page" 360
        page_holds published "$t/published/report.html" 1200
        page_holds columns "$t/columns/report.html" 360
        for dir in "$@"; do
            begin "study-$(basename "$dir")"
            cp "$dir"/*.csv "$t/$name"
            judged
            for w in 1200 360; do page_holds "$name" "$t/$name/report.html" $w; done
        done
        # what the checks would see: each spoilt page fails where it should
        spoilt() {      # spoilt WHAT SED
            sed "$2" "$page" > "$t/spoilt.html"
            browse spoilt "$t/spoilt.html" 1200
            grep -q "^BAD.*$1" "$t/said"
            result $? "a page that was spoilt is fine: $1"
        }
        spoilt 'lies on another' 's/<text x="[0-9.]*" y="[0-9.]*" font-size="10"/<text x="90" y="90" font-size="10"/'
        spoilt 'leaves its figure' 's/<text x="4.0" y="14.0"/<text x="-90" y="14.0"/'
        spoilt 'scroll sideways' 's/<h1>/<h1 style="width:2000px">/'
        spoilt 'figures have a size' 's/<svg class="rows"/<svg width="0" style="display:none" class="rows"/'
        spoilt 'no errors' 's/<h1>/<img src="http:\/\/127.0.0.1:9\/x.png"\/><h1>/'
        spoilt 'pointing shows' "s/pointerenter/pointerwhatever/"
        spoilt 'keyboard shows' "s/ArrowRight:i+1/ArrowRight:i/"
        spoilt 'is on top' 's/pointer-events:none}/pointer-events:none}.hot{pointer-events:none}/'
        spoilt 'light and dark' "s/data-theme=dark/data-theme=none/"
    else echo "SKIPPED: the page in a browser: no chromium"; skipped=$((skipped + 1)); fi
fi

echo "report: $passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
