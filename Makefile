# make              build/attnvar, the command line, and build/examples
# make test         builds and runs every test; the last line counts them
# make reproduce    the four research questions, and their report (DATA=.. SCALE=smoke|default|full|paper PAIRS=.. GLUE=..
#                   SEEDS=3 OUT=.. THREADS=..); JOBS=4: four processes train; WORK=train: only a worker, beside others on
#                   the same OUT
# make bench        how near the library comes to this machine's limits, and out/bench.html; a minute
# make check-long   sanitizers, clang, valgrind and fuzzers where there are any; minutes
# make check-hf     models, files and tokenizers to and from Hugging Face's libraries, where PYTHON=.. has them
# make clean        removes build/, not what reproduce wrote

CC ?= cc
MPICC ?= mpicc
CFLAGS ?= -O2
LDLIBS ?= -lm -lpthread
STD = -std=c99
WARN = -Wall -Wextra -Wpedantic -Wshadow
PYTHON ?= python3
JOBS ?=

DATA ?=
SCALE ?=
OUT ?= out
THREADS ?=
WORK ?=

# $(call whole,NAME,LEAST,MOST,OF WHAT): a variable that is empty, which means the default, or such a whole number
whole = $(if $(shell n="$(strip $($1))"; case "$$n" in ("") ;; (*[!0-9]*|?????*) echo no ;; \
    (*) [ "$$n" -ge $2 ] && [ "$$n" -le $3 ] || echo no ;; esac),$(error $1=$($1): must be $2 to $3, $4; empty: the default))
$(call whole,JOBS,1,1000,the number of processes that train or compile side by side)
$(call whole,THREADS,0,1024,the number of threads or 0 for all processors)
COMPILERS = $(or $(strip $(JOBS)),2)

# where the tests are built; the long checks have others
T = build/tests

# train_mpi only where MPICC finds its mpi.h
HAS_MPI := $(shell printf '\043include <mpi.h>\n' | $(MPICC) -E -x c - > /dev/null 2>&1 && echo yes)
EXAMPLES = $(filter-out $(if $(HAS_MPI),,%/train_mpi), \
    $(patsubst examples/%.c,build/examples/%,$(wildcard examples/*.c)))
TESTS = $(patsubst tests/%.c,$(T)/%,$(wildcard tests/test_*.c tests/fuzz_*.c))
QUESTIONS = rq1_1_group_ratio rq1_2_num_heads rq2_gqa_vs_kqv rq3_combined
BUILD = $(CC) $(STD) $(WARN) $(CPPFLAGS) $(CFLAGS) $(QUICK) $(LDFLAGS) -o $@ $< $(filter %.a,$^) $(LDLIBS)

all: build/attnvar $(EXAMPLES)

build/attnvar: tools/attnvar.c $(wildcard tools/*.h examples/*.h) attnvar.h
	@mkdir -p $(@D)
	$(BUILD)

build/compare: tests/compare.c attnvar.h
	@mkdir -p $(@D)
	$(BUILD)

build/examples/%: examples/%.c $(wildcard examples/*.h) attnvar.h
	@mkdir -p $(@D)
	$(BUILD)

# The tests' library, compiled once. A test that defines ATTNVAR_IMPLEMENTATION takes nothing out of the archive.
$(T)/attnvar.a: attnvar.h
	@mkdir -p $(@D)
	$(CC) $(STD) $(WARN) $(CPPFLAGS) $(CFLAGS) -D_POSIX_C_SOURCE=200809L -DATTNVAR_IMPLEMENTATION -x c -c -o $(@:.a=.o) $<
	@rm -f $@
	@$(AR) rcs $@ $(@:.a=.o)

$(T)/%: tests/%.c $(wildcard tests/*.h) attnvar.h $(T)/attnvar.a
	@mkdir -p $(@D)
	$(BUILD)

build/examples/train_mpi: CC = $(MPICC)
# These are compiled in a fifth of the time, and run hardly longer.
build/compare $(T)/test_core $(T)/test_limits $(T)/test_checkpoint $(T)/test_tokenizer $(T)/fuzz_json: QUICK = -O0
$(T)/test_claims: examples/claims.h
$(T)/test_lab $(T)/test_stats: $(wildcard examples/*.h)
$(T)/test_limits: examples/limits.h

# A job server of the caller's is used; else COMPILERS at once.
test:
	@$(MAKE) $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(COMPILERS)) --no-print-directory build/attnvar build/compare \
	    build/examples/report $(TESTS)
	@CC="$(CC)" JOBS=$(COMPILERS) tests/run.sh docs=tests/test_docs.sh cli="tests/test_cli.sh build/attnvar" \
	    $(foreach t,$(TESTS),$(patsubst test_%,%,$(notdir $t))=$t) \
	    report="tests/test_report.sh build/examples/report" data=tests/test_data.sh

# One process with all threads; when JOBS is given, that many train first, the threads divided among them, each on what the
# others have not taken. Timing and tables are one process's, after them, which also does what they left when they died.
WORKERS = $(or $(strip $(JOBS)),1)
ASK = for q in $(QUESTIONS); do DATA="$(DATA)" SCALE="$(SCALE)" OUT="$(OUT)" build/examples/$$q || exit 1; done

# All that the questions plan, of which they share runs; summed up before it begins.
SUM = awk '$$1 == "plan" && !seen[$$2]++ { s += $$3; \
        n[$$2 ~ /:timing$$/ ? 4 : $$2 ~ /\/glue-[^\/]*$$/ ? 3 : $$2 ~ /\/pairs-[^\/]*$$/ ? 2 : 1]++ } \
    END { s = int(s / 60 + .5); printf "In all: %d runs to train, %d to judge, %d to fine-tune, %d questions to time: " \
          "about %d h %d min with these threads\n", n[1], n[2], n[3], n[4], s / 60, s % 60 }'

reproduce:
	@$(MAKE) $(if $(findstring jobserver,$(MAKEFLAGS)),,-j$(COMPILERS)) --no-print-directory \
	    $(QUESTIONS:%=build/examples/%) build/examples/report
	@mkdir -p "$(OUT)"
	@[ "$(WORK)" = train ] || (export WORK=plan THREADS="$(THREADS)"; $(ASK)) > "$(OUT)/plan.log"
	@[ "$(WORK)" = train ] || $(SUM) "$(OUT)/plan.log"
	@[ "$(WORKERS)" = 1 ] || $(MAKE) -j$(WORKERS) --no-print-directory $(patsubst %,worker-%,$(shell seq $(WORKERS)))
	@export WORK="$(WORK)" THREADS="$(THREADS)"; $(ASK)
	@[ "$(WORK)" = train ] || build/examples/report "$(OUT)"
	@[ "$(WORK)" = train ] || echo "The report: $(OUT)/report.html"

# A recipe of make's, so that an interrupt ends all workers. What one leaves when it dies, the others do.
worker-%:
	@all="$(THREADS)"; [ "$${all:-0}" -gt 0 ] || all=$$(getconf _NPROCESSORS_ONLN); \
	each=$$((all / $(WORKERS))); [ $$each -gt 0 ] || each=1; export WORK=train THREADS=$$each; \
	if [ $* = 1 ]; then echo "Workers 2 to $(WORKERS) write to $(OUT)/worker-2.log and so on"; ($(ASK)); \
	else ($(ASK)) > "$(OUT)/worker-$*.log" 2>&1; fi || true

bench: build/attnvar
	@mkdir -p "$(OUT)"
	@build/attnvar bench --html "$(OUT)/bench.html"
	@echo "The picture: $(OUT)/bench.html"

check-long:
	@CC="$(CC)" tests/check_long.sh

check-hf: build/attnvar $(T)/hf_classify
	@$(PYTHON) tests/test_hf.py build/attnvar

clean:
	rm -rf build

.PHONY: all test reproduce bench check-long check-hf clean
