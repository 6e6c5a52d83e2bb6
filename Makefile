# `make quickstart`, `make photos`, `make faces` and `make test` set up .venv by themselves. VENV=PATH names a virtual
# environment to use instead; PYTHON=PATH a Python to make it with, which lends it the PyTorch that it has (that of a
# virtual environment cannot: there, VENV it is).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= quickstart

# `make photos DATA=clothing-co-parsing` and `make faces DATA=CelebAMask-HQ` train on photographs, as docs/data.md says;
# GPU=0 uses that device
PHOTOS ?= photos
FACES ?= faces
GPU ?= -1
NETWORK := --gpu_ids $(GPU) --seed 0 --ngf 16 --noise_nc 16 --z_dim 64 --use_vae
TRAINING := --ndf 16 --batchSize 8 --nThreads 1 --lr 0.001 --perceptual lite0 --netD projected --display_freq 900 \
	--print_freq 400 --save_epoch_freq 5 --keep_last 2
CCP := --dataset_mode custom --dataroot $(PHOTOS)/ccp --label_nc 59 --no_instance --checkpoints_dir $(PHOTOS)/checkpoints \
	--preprocess_mode fixed --aspect_ratio 0.5 $(NETWORK)
# persons: first small, where pictures are cheap, then at full size from there
CCP_SMALL := $(CCP) --name ccp64 --crop_size 64
CCP_LARGE := $(CCP) --name ccp --crop_size 128
CCP_TRAINING := $(TRAINING) --lambda_kld 0.01 --lambda_color 1 --mix_prior
# for the 900 photos of the model that ships; of many more photos fewer epochs will do: EPOCHS="--niter 2 --niter_decay 2"
EPOCHS ?= --niter 18 --niter_decay 12
FACE := --dataset_mode celeba --dataroot $(FACES)/data --checkpoints_dir $(FACES)/checkpoints --crop_size 128 $(NETWORK)
FACE_TRAINING := $(TRAINING) --load_size 136 --lambda_kld 0.02

# `make demo` opens a model in the browser; ARGS="--name EXP" another one than that which ships
.PHONY: quickstart photos faces pictures demo test test-fast lint clean

quickstart: $(VENV)/.installed-lite
	$(BIN)/python quickstart.py --out $(OUT)

photos: $(VENV)/.installed-lite $(PHOTOS)/ccp/classes.txt
	$(BIN)/python check_data.py $(CCP_LARGE) $(CCP_TRAINING)
	$(BIN)/python train.py $(CCP_SMALL) $(CCP_TRAINING) --niter 13 --continue_train
	$(BIN)/python train.py $(CCP_LARGE) $(CCP_TRAINING) --init_from $(PHOTOS)/checkpoints/ccp64 --ema 2000 \
		--niter 11 --niter_decay 10 --continue_train
	$(BIN)/python gallery.py $(CCP_LARGE) --use_ema --gallery_dir $(PHOTOS)/gallery

$(PHOTOS)/ccp/classes.txt: | $(VENV)/.installed
	$(if $(DATA),,$(error give DATA=CLONE, a clone of https://github.com/bearpaw/clothing-co-parsing))
	$(BIN)/python -m datasets.prepare_ccp --path $(DATA) --out $(PHOTOS)/ccp

faces: $(VENV)/.installed-lite
	$(if $(DATA)$(wildcard $(FACES)/data/train/labels),,$(error give DATA=FOLDER, CelebAMask-HQ as docs/data.md says))
	$(if $(DATA),$(BIN)/python -m datasets.prepare_celebamask --path $(DATA) --out $(FACES)/data)
	$(BIN)/python make_instances.py --dataset celeba --path $(FACES)/data
	$(BIN)/python check_data.py $(FACE) $(FACE_TRAINING)
	$(BIN)/python train.py $(FACE) --name first $(FACE_TRAINING) $(EPOCHS) --continue_train
	$(BIN)/python train.py $(FACE) --name second $(FACE_TRAINING) --init_from $(FACES)/checkpoints/first --lr 0.0008 \
		--lambda_color 3 --niter 16 --niter_decay 14 --continue_train
	$(BIN)/python train.py $(FACE) --name third $(FACE_TRAINING) --init_from $(FACES)/checkpoints/second --lr 0.0006 \
		--lambda_color 3 --niter 16 --niter_decay 16 --save_epoch_freq 4 --continue_train
	rm -rf $(FACES)/checkpoints/fitted
	$(BIN)/python -m models.fit_prior $(FACE) --name third --which_epoch 24 --out $(FACES)/checkpoints/fitted
	$(BIN)/python gallery.py $(FACE) --name fitted --gallery_dir $(FACES)/gallery

# the pictures of README.md and docs/ once more: of the models that ship, on the test layouts that `make photos` and
# `make faces` prepare, of the quickstart's model, and of pages in Chromium
SHOWN := --load_from_opt_file --gpu_ids $(GPU) --seed 0
SHOWN_FACES := --layouts 3 14 25 36 --restyled 8 62 --classes hair u_lip,l_lip skin background cloth
SHOWN_PEOPLE := --layouts 3 14 25 36 --restyled 5 47 --width 102 \
	--classes background blouse,coat,dress,jacket,shirt,sweater,top jeans,pants,skirt bag,purse hair
pictures: $(VENV)/.installed-dev $(OUT)/gallery/gallery.png $(PHOTOS)/ccp/classes.txt
	$(if $(wildcard $(FACES)/data/test/labels),,$(error $(FACES)/data: no faces; see datasets.prepare_celebamask))
	$(BIN)/python gallery.py $(SHOWN) --name scenes --checkpoints_dir $(OUT)/checkpoints --gallery_dir $(OUT)/shown \
		--layouts 5 --measured 1
	$(BIN)/python -c "from PIL import Image; Image.open('$(OUT)/shown/gallery.png').save('docs/gallery.jpg', quality=90)"
	$(BIN)/python -m benchmarks.pictures $(SHOWN) --name faces --dataroot $(FACES)/data --reconstruct $(SHOWN_FACES) \
		--out docs/faces.jpg
	$(BIN)/python -m benchmarks.pictures $(SHOWN) --name faces --dataroot $(FACES)/data --layouts 13 30 53 72 --width 102 \
		--out docs/failures.jpg
	$(BIN)/python -m benchmarks.pictures $(SHOWN) --name ccp --dataroot $(PHOTOS)/ccp --reconstruct $(SHOWN_PEOPLE) \
		--out docs/people.jpg
	$(BIN)/python test.py $(SHOWN) --name ccp --dataroot checkpoints/ccp/examples --styles prior --num_samples 7 \
		--results_dir $(OUT)/shown
	$(BIN)/python -m benchmarks.screenshots $(OUT)/shown/ccp/test_latest/index.html docs/page.jpg --height 760
	$(BIN)/python -m benchmarks.screenshots demo docs/demo.jpg --height 1060

$(OUT)/gallery/gallery.png: | $(VENV)/.installed-lite
	$(BIN)/python quickstart.py --out $(OUT)

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

LENT = import sys, importlib.util as i; lends = sys.prefix == sys.base_prefix and i.find_spec("torchvision"); \
	print("--system-site-packages" if lends and i.find_spec("torch") else "")

$(VENV)/.made:
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { test -e $(VENV) && old=1; \
		$(PYTHON) -m venv $$($(PYTHON) -c '$(LENT)') $(VENV) || { test "$$old" || rm -rf $(VENV); \
		echo "error: $(PYTHON) made no virtual environment; on Debian and Ubuntu: apt-get install python3-venv" >&2; \
		exit 1; }; }
	@touch $@

# says nothing where all is there; else pip shows what it downloads
INSTALL = @$(BIN)/python -m pip install --quiet --no-index -r $< 2>/dev/null || $(BIN)/python -m pip install -r $<

$(VENV)/.installed: requirements.txt | $(VENV)/.made
	@$(BIN)/python -c "import torch, torchvision" 2>/dev/null || echo "PyTorch for CUDA takes more than 5 GB. Without a" \
		"GPU, stop here, and take the small build for CPUs first: see Install in README.md"
	$(INSTALL)
	@touch $@

$(VENV)/.installed-%: requirements-%.txt $(VENV)/.installed
	$(INSTALL)
	@touch $@

$(VENV)/.installed-dev: requirements-lite.txt requirements-demo.txt requirements-export.txt

clean:
	rm -rf $(OUT)
