"""Read a whole data set and tell what is in it, what is wrong with it, and which options it needs.

    python check_data.py --dataset_mode cityscapes --dataroot DATA

takes the options of train.py. Both splits are read unless --phase chooses one. The exit status is 0 if training would
run on these data with these options (with --phase test: if testing would), and 2 if not. With --train_eval the test
split counts too. What else training reads, such as weights of VGG19, is named where this machine lacks it, but need not
be here.
"""
import json

from data.command_line import refuse_mistakes
from options import Options
from options.check_options import CheckOptions
from util.errors import UserError, command

if __name__ == "__main__":  # before the long imports
    refuse_mistakes(CheckOptions())

from data.report import build_report, print_report
from models.networks.efficientnet_lite import packaged_weights
from models.networks.vgg import VGG19
from util.files import check_writable, write_atomically


@command
def main() -> None:
    opt = CheckOptions().parse()
    if opt.json:
        check_writable(opt.json)
    report = build_report(opt) | {"missing": missing(opt) if "train" in opt.phases else []}
    print_report(report)
    if opt.json:
        write_atomically(opt.json, json.dumps(report, indent=1) + "\n")
    if not report["runs"]:
        what = "training" if opt.phases[0] == "train" else "testing"
        others = report["num_problems"] - 1
        more = f" ({others} more above)" if others > 0 else ""
        raise UserError(f"{what} would stop: {report['stops_at']}{more}")


def missing(opt: Options) -> list[str]:
    """What training with these options reads besides the data, and is not on this machine: a line for each."""
    needs = []
    if opt.perceptual == "lite0" or opt.netD == "projected":
        needs.append(packaged_weights)
    if opt.perceptual == "vgg19" and not opt.no_vgg_loss:
        needs.append(lambda: VGG19.find(opt.vgg_weights))
    if opt.train_eval:
        from metrics.extractors import feature_dims, load_extractor  # takes more than a second
        from metrics.statistics_files import load_statistics

        dims = feature_dims(opt.eval_extractor, opt.eval_dims)
        needs += [lambda: load_statistics(opt.eval_statistics or opt.dataset_mode, dims, opt.eval_extractor),
                  lambda: load_extractor(opt.eval_extractor, dims, "cpu", opt.inception_weights, opt.eval_precision)]
    found = []
    for need in needs:
        try:
            need()
        except UserError as error:
            found.append(str(error))
    return found


if __name__ == "__main__":
    main()
