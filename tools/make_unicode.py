#!/usr/bin/env python3
"""Makes the table of character classes in attnvar.h, which the tokenizer's pre-tokenisation reads.

    python3 tools/make_unicode.py                           prints the table
    python3 tools/make_unicode.py --check attnvar.h         compares the header's table with the source
    python3 tools/make_unicode.py --write attnvar.h         puts it between the header's markers

Source: Python's copy of the Unicode Character Database (the module unicodedata2 where installed, or else Python's own
unicodedata; the table names the version), or with --data FILE the UnicodeData.txt of any version, and then --version
too. The header's table was made from unicodedata2 16.0.0, as Hugging Face's tokenizers has Unicode 16. A check against
another version than the header's compares the characters that the source has assigned, whose classes have not changed
since Unicode 6.3.

Classes, from the general category: letter (L*), number (N*), space (the property White_Space: Z*, U+0009..000D, U+0085)
and other. Numbers and others are split by whether they belong to words as regular expressions have it (\\w: Alphabetic,
M*, Nd, Pc, Join_Control), for added tokens that match whole words only. Alphabetic beyond L*, Nl and M* are four runs
of circled and squared letters.

Coding: the code points where the class changes, each as (distance from the last one) * 8 + (the class from here on);
distances of 8192 and more are cut into several. So every entry fits 16 bits.
"""
import argparse
import re
import sys

try:
    import unicodedata2 as unicodedata
except ImportError:
    import unicodedata

OTHER, LETTER, NUMBER, SPACE, OTHER_WORD, NUMBER_WORD = 0, 1, 2, 3, 4, 6           # the lowest two bits: without \w
LETTERLIKE = [(0x24B6, 0x24E9), (0x1F130, 0x1F149), (0x1F150, 0x1F169), (0x1F170, 0x1F189)]
BEGIN = "/* Unicode {version}: made by tools/make_unicode.py, begin */"
END = "/* made by tools/make_unicode.py, end */"


def categories(path):
    """The general category of every code point."""
    if not path:
        return [unicodedata.category(chr(c)) for c in range(0x110000)]
    out = ["Cn"] * 0x110000
    first = None
    with open(path, encoding="ascii") as file:
        for line in file:
            fields = line.split(";")
            code = int(fields[0], 16)
            if fields[1].endswith(", First>"):
                first = code
            for c in range(first if fields[1].endswith(", Last>") else code, code + 1):
                out[c] = fields[2]
    return out


def class_of(c, category):
    if category[0] == "L":
        return LETTER
    if category[0] == "N":
        return NUMBER_WORD if category in ("Nd", "Nl") else NUMBER
    if category[0] == "Z" or 9 <= c <= 13 or c == 0x85:
        return SPACE
    word = category[0] == "M" or category == "Pc" or c in (0x200C, 0x200D) or any(a <= c <= b for a, b in LETTERLIKE)
    return OTHER_WORD if word else OTHER


def encode(classes):
    out, last, now = [], 0, OTHER
    for c, k in enumerate(classes):
        if k == now:
            continue
        while c - last > 8191:
            out.append(8191 * 8 + now)
            last += 8191
        out.append((c - last) * 8 + k)
        last, now = c, k
    return out


def decode(codes):
    out, now = [], OTHER
    for code in codes:
        out += [now] * (code >> 3)
        now = code & 7
    return out + [now] * (0x110000 - len(out))


def table(codes, version):
    lines, line = [], "   "
    for code in codes:
        if len(line) + len(str(code)) + 2 > 124:
            lines.append(line)
            line = "   "
        line += " %d," % code
    lines.append(line.rstrip(","))
    return "\n".join([BEGIN.format(version=version), "static const uint16_t atvi_unicode[] = {", *lines, "};", END])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="FILE", help="UnicodeData.txt instead of Python's unicodedata")
    parser.add_argument("--version", help="its version")
    parser.add_argument("--check", metavar="HEADER")
    parser.add_argument("--write", metavar="HEADER")
    args = parser.parse_args()
    if args.data and not args.version:
        parser.error("--data needs --version")
    version = args.version if args.data else unicodedata.unidata_version
    category = categories(args.data)
    classes = [class_of(c, g) for c, g in enumerate(category)]
    text = table(encode(classes), version)
    assert decode(encode(classes)) == classes
    path = args.check or args.write
    if not path:
        print(text)
        return 0
    with open(path, encoding="utf-8", newline="") as file:
        header = file.read()
    pattern = re.escape(BEGIN).replace(re.escape("{version}"), r"([0-9.]+)") + ".*?" + re.escape(END)
    found = re.search(pattern, header, re.S)
    if not found:
        sys.exit(path + ": no table between the markers of tools/make_unicode.py")
    if args.write:
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(header[:found.start()] + text + header[found.end():])
        return 0
    if found.group(1) == version:
        if found.group(0) != text:
            sys.exit("%s: the table is not that of Unicode %s" % (path, version))
        print("%s: the table is that of Unicode %s" % (path, version))
        return 0
    body = found.group(0).split("{", 1)[1].split("}", 1)[0]
    theirs = decode([int(x) for x in re.findall(r"[0-9]+", body)])
    bad = [c for c in range(0x110000) if category[c] != "Cn" and theirs[c] != classes[c]]
    if bad and int(version.split(".")[0]) <= int(found.group(1).split(".")[0]):
        sys.exit("%s: %d characters differ from Unicode %s, the first U+%04X" % (path, len(bad), version, bad[0]))
    print("%s: the table, of Unicode %s, has all characters of Unicode %s right%s" % (
        path, found.group(1), version, " but %d newer ones" % len(bad) if bad else ""))
    return 0


if __name__ == "__main__":
    sys.exit(main())
