"""Score images with an exported model: `python -m anoframe.deploy MODEL INPUT`."""

from __future__ import annotations

import argparse
import json
import sys

from anoframe.deploy.model import load
from anoframe.utils.console import run_command


def main() -> int:
    """Write one JSON line per image; return 1 if an image could not be scored, else 0."""
    parser = argparse.ArgumentParser(prog="python -m anoframe.deploy", description=__doc__)
    parser.add_argument("model", metavar="MODEL", help="model.onnx, model.xml, or the folder that has one")
    parser.add_argument("input", metavar="INPUT", help="an image, or a folder of images")
    parser.add_argument("--output", metavar="FILE", help="write the lines to this file (default: print them)")
    parser.add_argument("--threads", metavar="N", type=int, default=0, help="0: the runtime chooses (default)")
    parser.add_argument("--device", metavar="D", default="CPU", help="of the runtime (default CPU)")
    options = parser.parse_args()

    def run() -> int:
        model = load(options.model, options.threads, options.device)
        if options.output:
            return int(model.write_scores(options.input, options.output) > 0)
        bad = 0
        for entry in model.predict_folder(options.input):
            print(json.dumps(entry, ensure_ascii=False), flush=True)
            bad += "error" in entry
        return int(bad > 0)

    return run_command(run, "start again; lines are printed as images are scored")


if __name__ == "__main__":
    sys.exit(main())
