#!/bin/sh
# tests/test_report.sh [build/examples/report]: the judgement that the report comes to, from files whose verdicts are known by
# hand, and a page from any of them.
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

# direction D: 1 as published, -1 the other way. Seeds differ by 10 and more, their differences by little: sd 0.01, so a clear
# mean is one above 0.0248 (t 4.303 for three seeds).
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
verdict p contradicts                                       # .9, .7, .5, .3 of MHA's time at 16 sequences
says "supports *GLUE: GQA .125 against MHA .*4.0 points"
study reversed -1 "22 32 12" "18 28 8"
for key in a b c d; do verdict $key contradicts; done
verdict p supports
says "COMBINED\|combination does not lie between"

# ---- where clear begins: Student's t, 4.303 / sqrt(3) = 2.484 sd for three seeds, 12.706 / sqrt(2) = 8.98 sd for two

ends() {        # ends NAME LOSS_MHA LOSS_GQA TURNS: question 1.1 from two variants
    begin "$1"; file rq1_1
    row MHA 8 1 1 "$2" "" "$5" "$5"
    row "GQA .125" 8 .125 1 "$3" "" "$4" "$4"
    judged
}
five="1 1 1 1 1"
ends three-below "1 2 3" "2.4 4.4 6.4" "$(around .5)" "$ones"      # differences 1.4 2.4 3.4: 2.4 sd
verdict a "cannot tell"; says "+2.400 (.*0.084 to +4.884; 3 seeds: not clear)"
ends three-above "1 2 3" "2.5 4.5 6.5" "$(around .5)" "$ones"      # 2.5 sd
verdict a supports; says "+2.500 (+0.016 to +4.984; 3 seeds)"
ends two-below "1 2" "9 12" "$(around .5)" "$ones"                 # 8 and 10: 6.4 sd
verdict a "cannot tell"
ends two-above "1 2" "13 16" "$(around .5)" "$ones"                # 12 and 14: 9.2 sd
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

# Times: the second smallest to the second largest of nine turns; five turns at least.
ends nine-one-out "1 2 3" "2 3 4" ".5 .6 .5 .6 .5 .6 .5 .6 1.5" "$ones"
verdict a supports
ends nine-two-out "1 2 3" "2 3 4" ".5 .6 .5 .6 .5 .6 .5 1.5 1.5" "$ones"
verdict a "cannot tell"
ends five-turns "1 2 3" "2 3 4" ".5 .6 .5 .6 .5" "$five"
verdict a supports
ends four-turns "1 2 3" "2 3 4" ".5 .6 .5 .6" "1 1 1 1"
verdict a "cannot tell"; says "4 turns: too few"
ends slower "1 2 3" "2 3 4" "1.5 1.6 1.5 1.6 1.5" "$five"
verdict a contradicts

# ---- what takes a claim away

trend() {       # trend NAME LOSS_.5 PAIRS_.125: MHA 1, GQA .125 at 2
    begin "$1"; file rq1_1
    row MHA 8 1 1 "1 1 1" "50 50 50" "$five" "$five"
    row "GQA .5" 8 .5 1 "$2" "" ".8 .8 .8 .8 .8" ".8 .8 .8 .8 .8"
    row "GQA .125" 8 .125 1 "2 2.1 1.9" "$3" ".5 .6 .5 .6 .5" ".5 .6 .5 .6 .5"
    judged
}
trend steady "1.5 1.6 1.4" "50 51 49"
verdict a supports; says "of 2 other pairs 2 clear as claimed, 0 the other way"
trend hollow "2.5 2.6 2.4" "50 51 49"                       # .5 is worse than .125, clearly
verdict a "cannot tell"; says "1 the other way"
trend blurred "2.5 5 0" "50 51 49"                          # .5 is anywhere: takes nothing away
verdict a supports
trend disagree "1.5 1.6 1.4" "60 61 59"                     # more pairs right, clearly
verdict a "cannot tell"

begin mixed; file rq2                                       # KQV faster on average, but clearly slower at .125
for p in .75:.5 .5:.5 .25:.5 .125:1.2; do
    row "GQA ${p%:*}" 8 "${p%:*}" 1 "1 1 1" "" "$ones" "$ones"
    row "KQV ${p%:*}" 8 1 "${p%:*}" "2 2.1 1.9" "" "$(around "${p#*:}")" "$(around "${p#*:}")"
done
judged; verdict c "cannot tell"

begin inside; file rq3                                      # clear of one end only
row "GQA .25" 8 .25 1 "1 1 1" "" "$five" "$five"
row "COMBINED .5/.5" 8 .5 .5 "2 2.1 1.9" "" ".8 .8 .8 .8 .8" ".8 .8 .8 .8 .8"
row "KQV .25" 8 1 .25 "2 2.4 1.8" "" ".6 .6 .6 .6 .6" ".6 .6 .6 .6 .6"
judged; verdict d "cannot tell"; says "The combination lies between them in speed; where"

# ---- files that lack columns, or are not there

begin columns
printf 'variant,label,heads,group_proportion\nmha-8,MHA,8,1\ngqa-8-.125,GQA .125,8,.125\n' > "$t/columns/rq1_1.csv"
judged
for key in a b c d p; do verdict $key "cannot tell"; done
begin nothing
"$report" "$t/nothing" > "$t/nothing/said" 2>&1
[ $? -eq 1 ] && grep -q 'no rq1_1.csv' "$t/nothing/said"
result $? "an empty directory is reported on"

for page in "$t"/*/report.html; do
    grep -q 'says of the published observations' "$page" && grep -q '^</html>\|</body></html>' "$page"
    result $? "$page is not whole"
done

echo "report: $passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
