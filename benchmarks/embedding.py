"""Throughput of the embedding pipeline beside its floor: decoding alone and LiteRT alone, each on all cores."""

from statistics import median

from benchmarks.common import seconds_of
from retrain.backbones import load_backbone
from retrain.bottlenecks import Store, embed_files
from retrain.dataset import find_dataset
from retrain.images import decode, read
from retrain.options import QUALITIES
from retrain.parallel import ordered_map


def measure(bench):
    paths = find_dataset(bench.photos).paths
    backbone = load_backbone(QUALITIES["fast"])

    def decode_file(path):
        return backbone.to_input(decode(read(path)))

    images = list(ordered_map(decode_file, paths))

    def embed_all():
        with Store(bench.fresh() / "bottlenecks.sqlite") as store:
            embed_files(paths, [backbone], store)

    sides = {
        "decoding alone": lambda: sum(1 for _ in ordered_map(decode_file, paths)),
        "LiteRT alone": lambda: sum(1 for _ in ordered_map(lambda image: backbone.embed(image[None]), images)),
        "pipeline with store": embed_all,
    }
    seconds = bench.alternate({name: lambda side=side: seconds_of(side) for name, side in sides.items()})
    alone = zip(seconds["decoding alone"], seconds["LiteRT alone"], strict=True)
    seconds["floor: both in turn"] = [sum(each) for each in alone]
    shares = zip(seconds["floor: both in turn"], seconds["pipeline with store"], strict=True)
    return {
        "rows": [
            {"what": name, "seconds": round(median(each), 3), "images/s": round(len(paths) / median(each))}
            for name, each in seconds.items()
        ],
        "ratios": {"pipeline / floor": round(median(floor / pipeline for floor, pipeline in shares), 3)},
    }
