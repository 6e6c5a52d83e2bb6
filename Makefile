# `make quickstart`, `make photos` and `make test` set up .venv by themselves.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= quickstart

# `make photos DATA=clothing-co-parsing` trains on photographs of persons, as docs/data.md says; GPU=0 uses that device
PHOTOS ?= photos
GPU ?= -1
CCP := --dataset_mode custom --dataroot $(PHOTOS)/ccp --label_nc 59 --no_instance \
	--name ccp --checkpoints_dir $(PHOTOS)/checkpoints --gpu_ids $(GPU) --seed 0 \
	--preprocess_mode fixed --crop_size 128 --aspect_ratio 0.5 --ngf 16 --noise_nc 16 --z_dim 64 --use_vae
CCP_TRAINING := --ndf 16 --batchSize 4 --nThreads 1 --lr 0.001 --niter 12 --niter_decay 10 \
	--perceptual lite0 --lambda_kld 0.02 --display_freq 900 --print_freq 400 --save_epoch_freq 5

# `make demo` opens a model in the browser; ARGS="--name EXP" another one than that which ships
.PHONY: quickstart photos demo test test-fast lint clean

quickstart: $(VENV)/.installed-lite0
	$(BIN)/python quickstart.py --out $(OUT)

photos: $(VENV)/.installed-lite0 $(PHOTOS)/ccp/classes.txt
	$(BIN)/python check_data.py $(CCP) $(CCP_TRAINING)
	$(BIN)/python train.py $(CCP) $(CCP_TRAINING) --continue_train
	$(BIN)/python gallery.py $(CCP) --gallery_dir $(PHOTOS)/gallery

$(PHOTOS)/ccp/classes.txt: | $(VENV)/.installed
	$(if $(DATA),,$(error give DATA=CLONE, a clone of https://github.com/bearpaw/clothing-co-parsing))
	$(BIN)/python -m datasets.prepare_ccp --path $(DATA) --out $(PHOTOS)/ccp

demo: $(VENV)/.installed-demo
	$(BIN)/python demo.py $(ARGS)

# on all cores; a worker takes over what another has not begun, so that tests of a file mostly share its fixtures
PARALLEL := -n auto --dist worksteal
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(PARALLEL)

# the mathematics and the options, in about a minute; not what decides
test-fast: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(PARALLEL) $(addprefix tests/test_,networks.py losses.py options.py data.py)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --upgrade -r requirements.txt
	touch $@

$(VENV)/.installed-%: requirements-%.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --upgrade -r $<
	touch $@

$(VENV)/.installed-dev: requirements-lite0.txt requirements-demo.txt

clean:
	rm -rf $(OUT)
