"""The table of commands. It imports nothing heavy: `latent-lab --help` answers before torch could be loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from latent_lab.cli.arguments import Option

GROUPS = ("Start here", "Train", "Measure", "Compare spaces", "Look", "Data and files", "What there is")


@dataclass(frozen=True)
class Command:
    """One command and everything its help says."""

    name: str
    group: str
    summary: str
    run: str
    """Where it is: "module:function"; the function takes `Arguments` and returns an exit code or None."""
    usage: str = ""
    """What follows the name."""
    names: Literal["", "checkpoints", "chains"] = ""
    """What that comes with the project its words may name besides files, for a shell to complete."""
    options: tuple[Option, ...] = ()
    options_from: str | None = None
    """"module:function" of the words to the class or function whose parameters are options, too."""
    sections: tuple[str, ...] = ()
    """Configuration sections whose keys may be given: --data.root X."""
    details: str = ""
    """More sentences for the help."""
    examples: tuple[str, ...] = ()
    actions: tuple[Command, ...] = ()
    """What its first word may be, each with options of its own."""

    def action(self, words: Sequence[str]) -> Command:
        """The action that the first of the words after the command's name says, called as both; else the command."""
        named = next((one for one in self.actions if [one.name] == list(words[:1])), None)
        return self if named is None else replace(named, name=f"{self.name} {named.name}")


CHECKPOINT = Option("ckpt", "checkpoint file, or a name that `latent-lab checkpoints` lists", "FILE")
OUT = Option("out", "folder for what comes out", "DIR")
DEVICES = Option("devices", "number of devices (default 1); the numbers do not depend on it", "N")
ACCELERATOR = Option("accelerator", "auto (default), cpu, gpu, cuda, mps", "NAME")
SPLIT = Option("split", "which images: train, val, test (default), or of data with views unseen_views", "NAME")
IMAGES = Option("images", "your own images: a folder or one file, instead of the data of the checkpoint", "PATH")
CONFIGS = Option("config", "a YAML file, or a shipped name; may be repeated, later ones win", "FILE", repeated=True)

MAX_KIMG = "run.max_kimg"
_MAP = (
    Option("map", "file of `latent-lab map`: latents of --ckpt are decoded by the model of --target", "FILE"),
    Option("target", "checkpoint of the model to which --map maps", "FILE"),
)
_LOOK = (
    CHECKPOINT,
    OUT,
    Option("space", "of a StyleGAN: z (default), w, or w+ (a point of W for every layer)", "NAME"),
    Option("truncation", "of a StyleGAN: share of the deviation from the mean of W that is kept, such as 0.7", "PSI"),
    Option("truncated-layers", "how many layers, from the coarsest, are truncated (default: all)", "N"),
    *_MAP,
    DEVICES,
    ACCELERATOR,
)
_SPACES = (CHECKPOINT, OUT, DEVICES, ACCELERATOR, SPLIT, IMAGES)
_MEASURED = "Model and data are the checkpoint's; what you change over it is printed."


def _of_chains(
    name: str,
    summary: str,
    *,
    usage: str,
    options: tuple[Option, ...],
    example: str,
    names: Literal["", "chains"] = "",
    sections: tuple[str, ...] = (),
) -> Command:
    """An action of `latent-lab chain`."""
    place = "latent_lab.cli.chaining"
    return Command(
        name,
        "Train",
        summary,
        f"{place}:chain",
        usage=usage,
        names=names,
        options=options,
        options_from=f"{place}:action_options",
        sections=sections,
        examples=(f"latent-lab chain {name} {example}",),
    )


COMMANDS = (
    Command(
        "demo",
        "Start here",
        "trains on built-in faces for a few minutes, tests, draws pictures, writes a report",
        "latent_lab.cli.demo:demo",
        usage="[--out DIR]",
        options=(
            Option("out", "folder for run, results and report (default runs/demo); continues what is there", "DIR"),
            Option("max-kimg", "thousands of images to train on", "N", MAX_KIMG),
        ),
        sections=("run", "trainer"),
        examples=("latent-lab demo",),
    ),
    Command(
        "fit",
        "Train",
        "trains the model of a configuration",
        "latent_lab.cli.training:fit",
        usage="--config NAME.yaml [--SECTION.OPTION VALUE ...]",
        options=(
            CONFIGS,
            Option("run-dir", "folder of the run (default runs/NAME)", "DIR", key="run.dir"),
            Option("resume", "auto: continue this run if it was begun; no (default); or a checkpoint file", "HOW"),
            Option("max-kimg", "thousands of images after which to stop (default: the schedule's)", "N", MAX_KIMG),
            Option("seed", "of the model and of the order of its images", "N"),
            Option("dry-run", "build everything, print configuration and schedule, train nothing"),
        ),
        sections=("model", "data", "run", "trainer"),
        details=(
            "The command line wins over later configurations, these over earlier ones, all over the checkpoint that is "
            "resumed. Short keys work: --model.latent_dim is --model.init_args.latent_dim."
        ),
        examples=(
            "latent-lab fit --config pioneer_celebahq.yaml --data.root ~/celeba-hq",
            "latent-lab fit --config pioneer_folder --config trainer/gpu --data.root photos --run-dir runs/photos",
            "latent-lab fit --run-dir runs/photos --resume auto --max-kimg 2000",
            'latent-lab fit --config pioneer_synthetic --model.widths "[64, 64, 64, 32]" --model.weights.latent 50',
        ),
    ),
    Command(
        "chain",
        "Train",
        "translators from each domain to the next (ages of faces): builds a chain of them, applies it, reports on it",
        "latent_lab.cli.chaining:chain",
        usage=(
            "build --config NAME.yaml | apply CHAIN --images DIR --out DIR | report CHAIN | "
            "export CHAIN --out DIR | label FOLDER --out FILE.csv"
        ),
        details=(
            "`build` trains for every step a translator of its own and the last one on, and keeps the latter for both "
            "steps if it is no worse; ledger.json says what was measured and decided. CHAIN is a chain's folder, or "
            "the name of one that comes with the project. `latent-lab chain build --help`, and so on, show each "
            "action's options."
        ),
        examples=(
            "latent-lab chain label photos --estimator dlib_age --estimator-box utkface --out labels.csv",
            "latent-lab chain build --config chain_synthetic.yaml",
            "latent-lab chain apply runs/chain_synthetic --images photos --out older --direction round-trip",
            "latent-lab chain report runs/chain_synthetic --split test",
            "latent-lab chain export runs/chain_synthetic --out small --half",
        ),
        actions=(
            _of_chains(
                "build",
                "trains, compares and decides, step by step; stopped, it goes on with the same command",
                usage="--config NAME.yaml [--out DIR] [--SECTION.OPTION VALUE ...]",
                options=(CONFIGS, Option("out", "folder of the chain (default runs/NAME)", "DIR"), ACCELERATOR),
                sections=("model", "data", "chain", "run", "trainer"),
                example="--config chain_synthetic.yaml",
            ),
            _of_chains(
                "apply",
                "moves images along a chain and writes them at every station",
                usage="CHAIN --images PATH --out DIR [--OPTION VALUE ...]",
                names="chains",
                options=(Option("images", "what is translated: a folder or one file", "PATH"), OUT, ACCELERATOR),
                example="chain_faces64 --images photos --out older --direction round-trip",
            ),
            _of_chains(
                "report",
                "measures all links of a chain on held-out images of its data",
                usage="CHAIN [--out DIR] [--OPTION VALUE ...]",
                options=(Option("out", "folder for what comes out (default CHAIN/report)", "DIR"), ACCELERATOR),
                sections=("data",),
                example="runs/chain_synthetic --split test",
            ),
            _of_chains(
                "export",
                "copies what `apply` needs into small files to give to others",
                usage="CHAIN --out DIR [--half]",
                options=(OUT, Option("half", "round weights to float16, half the size")),
                example="runs/chain_synthetic --out small --half",
            ),
            _of_chains(
                "label",
                "estimates ages of photographs into a table of labels, by which domains are told",
                usage="FOLDER --out FILE.csv [--OPTION VALUE ...]",
                options=(Option("out", "table to write", "FILE.csv"), ACCELERATOR),
                example="photos --estimator dlib_age --estimator-box utkface --out labels.csv",
            ),
        ),
    ),
    Command(
        "check",
        "Train",
        "what a configuration will need, before hours are spent: time, memory, disk, and whether its data is readable",
        "latent_lab.cli.checking:check",
        usage="--config NAME.yaml [--SECTION.OPTION VALUE ...]",
        options=(
            CONFIGS,
            OUT,
            Option("max-kimg", "thousands of images after which to stop (default: the schedule's)", "N", MAX_KIMG),
            Option("run-dir", "folder that the run would get, whose disk is looked at", "DIR", key="run.dir"),
        ),
        options_from="latent_lab.cli.checking:check_options",
        sections=("model", "data", "run", "trainer"),
        details=(
            "Takes the configurations and keys that `fit` takes. Each row of the schedule is trained for a few "
            "seconds; packs of the data are made and kept, nothing else of a run is."
        ),
        examples=("latent-lab check --config pioneer_folder.yaml --data.root photos",),
    ),
    Command(
        "test",
        "Measure",
        "all metrics of a checkpoint on held-out test images",
        "latent_lab.cli.analysing:test",
        usage="--ckpt FILE [--out DIR] [--OPTION VALUE ...]",
        options=(*_LOOK, SPLIT),
        options_from="latent_lab.cli.analysing:full_evaluation",
        sections=("model", "data"),
        details=f"{_MEASURED} Writes result.json, report.md and pictures.",
        examples=(
            "latent-lab test --ckpt runs/photos/checkpoints/last.ckpt",
            "latent-lab test --ckpt runs/photos/checkpoints/last.ckpt --num-samples 5000 --extractor efflite0",
        ),
    ),
    Command(
        "validate",
        "Measure",
        "measures as `test` does, on validation images, quickly, with small samples",
        "latent_lab.cli.analysing:validate",
        usage="--ckpt FILE [--out DIR] [--OPTION VALUE ...]",
        options=_LOOK,
        options_from="latent_lab.cli.analysing:quick_evaluation",
        sections=("model", "data"),
        details=_MEASURED,
        examples=("latent-lab validate --ckpt runs/photos/checkpoints/last.ckpt",),
    ),
    Command(
        "analyze",
        "Measure",
        "any analysis of a checkpoint: numbers to result.json, figures to PNG",
        "latent_lab.cli.analysing:analyze",
        usage="NAME --ckpt FILE [--out DIR] [--OPTION VALUE ...]",
        options=(*_LOOK, SPLIT, IMAGES),
        options_from="latent_lab.cli.analysing:named_analysis",
        sections=("model", "data"),
        details=f"`latent-lab analyze` alone names all of them. {_MEASURED}",
        examples=("latent-lab analyze interpolate --ckpt pioneer.ckpt --out pictures",),
    ),
    Command(
        "report",
        "Measure",
        "one page about a run or checkpoint: curves, pictures, numbers, health of latents, nearest training images",
        "latent_lab.cli.reporting:report",
        usage="RUN|FILE [--out DIR] [--OPTION VALUE ...]",
        names="checkpoints",
        options=(CHECKPOINT, OUT, DEVICES, ACCELERATOR, SPLIT, IMAGES),
        options_from="latent_lab.cli.reporting:report_options",
        sections=("data",),
        details=(
            "RUN is a folder of `fit`; FILE a checkpoint, or a name that `latent-lab checkpoints` lists. Numbers of "
            "`test` are shown where they are. Writes report.html, which needs no other file, report.md and result.json."
        ),
        examples=(
            "latent-lab report runs/photos",
            "latent-lab report stylegan_faces32 --data.root images --quick-test",
        ),
    ),
    Command(
        "compare",
        "Measure",
        "results of several models in one table, each column measured in one way; reports and runs with pictures",
        "latent_lab.cli.comparing:comparison",
        usage="RESULT|RUN RESULT|RUN ... [--out FILE.md|.html|.csv]",
        options=(
            Option("out", "file for the table; its ending decides on the form; .html holds the pictures", "FILE"),
            Option("numbers", "only numbers whose names begin with one of these words: fd,rec_mse", "LIST"),
            Option("strict", "numbers that were measured in different ways are an error"),
        ),
        details=(
            "RESULT is a result.json or its folder, of `report`, too; RUN a run with a report or a result of `test`. "
            "Numbers whose protocols differ in anything but the model get columns of their own, and a line says what "
            "differs; the best value is marked within a column only."
        ),
        examples=(
            "latent-lab compare runs/a/test-100k runs/b/test-100k",
            "latent-lab compare runs/*/test-* --numbers fd,rec_mse --out table.md",
            "latent-lab compare runs/a runs/b --out both.html",
        ),
    ),
    Command(
        "why-fid",
        "Measure",
        "computes one Frechet distance in all usual ways, and says which of them explain another program's value",
        "latent_lab.cli.explaining:why_frechet",
        usage="--ckpt FILE | --images PATH --reference PATH [--theirs X] [--OPTION VALUE ...]",
        options=(
            *_LOOK,
            Option("images", "images to be judged, instead of a checkpoint's samples: a folder", "PATH"),
            Option("reference", "the images that these are compared with: a folder", "PATH"),
        ),
        options_from="latent_lab.cli.explaining:explanation",
        sections=("model", "data"),
        details="Each row changes one thing: resize, rounding, precision, counts, extractor, reference images.",
        examples=(
            "latent-lab why-fid --ckpt runs/photos/checkpoints/last.ckpt --theirs 12.3",
            "latent-lab why-fid --images samples/ --reference photos/ --theirs 12.3",
        ),
    ),
    Command(
        "train-regressor",
        "Measure",
        "trains the small network that estimates labels, for `edit` and `mix`",
        "latent_lab.cli.regressing:train",
        usage="--config NAME.yaml|--ckpt FILE --out X.safetensors [--OPTION VALUE ...]",
        options=(CONFIGS, CHECKPOINT, Option("out", "file to write", "X.safetensors"), ACCELERATOR),
        options_from="latent_lab.cli.regressing:regressor_training",
        sections=("data",),
        details="It sees the training images; the table that is printed is of the validation images.",
        examples=(
            "latent-lab train-regressor --config pioneer_synthetic --out faces.safetensors",
            "latent-lab train-regressor --ckpt last.ckpt --data.labels labels.csv --out celeba.safetensors",
        ),
    ),
    Command(
        "compare-spaces",
        "Compare spaces",
        "normality, distances, maps, similarity, directions of several models in one report with figures",
        "latent_lab.cli.spaces:compare_spaces",
        usage="A.ckpt B.ckpt C.ckpt ... [--OPTION VALUE ...]",
        names="checkpoints",
        options=_SPACES,
        options_from="latent_lab.cli.spaces:comparison_of_spaces",
        sections=("data",),
        details=(
            "Models are shown the first one's images; one that was trained on another crop of the same pictures sees "
            "that. With other data a note says so. Directions need labels (--data.labels)."
        ),
        examples=(
            "latent-lab compare-spaces runs/*/checkpoints/last.ckpt --out comparison",
            "latent-lab compare-spaces a.ckpt b.ckpt --data.labels list_attr_celeba.csv --parts map-matrix,directions",
        ),
    ),
    Command(
        "normality",
        "Compare spaces",
        "whether codes of images are distributed as the prior, and how many dimensions they fill",
        "latent_lab.cli.spaces:normality",
        usage="A.ckpt B.ckpt ... [--OPTION VALUE ...]",
        names="checkpoints",
        options=_SPACES,
        options_from="latent_lab.cli.spaces:tests_of_normality",
        sections=("data",),
        details=(
            "Tests that cannot tell in a space of that size are named. Spherical latents are tested for uniformity. "
            "Samples that were decoded and encoded again stand beside the codes."
        ),
        examples=("latent-lab normality runs/*/checkpoints/last.ckpt --out normality",),
    ),
    Command(
        "distances",
        "Compare spaces",
        "distances of codes of random images, of an image with noise, and of nearest neighbours",
        "latent_lab.cli.spaces:distances",
        usage="A.ckpt B.ckpt ... [--OPTION VALUE ...]",
        names="checkpoints",
        options=_SPACES,
        options_from="latent_lab.cli.spaces:distances_of_pairs",
        sections=("data",),
        details="Pairs are made in image space, so that they are the same for all models.",
        examples=("latent-lab distances runs/*/checkpoints/last.ckpt --half-width 0.1",),
    ),
    Command(
        "neighbours",
        "Compare spaces",
        "nearest neighbours: hubs, attributes that neighbours share, and how far models agree",
        "latent_lab.cli.spaces:neighbours",
        usage="A.ckpt B.ckpt ... [--OPTION VALUE ...]",
        names="checkpoints",
        options=_SPACES,
        options_from="latent_lab.cli.spaces:nearest_neighbours",
        sections=("data",),
        examples=(
            "latent-lab neighbours runs/*/checkpoints/last.ckpt",
            "latent-lab neighbours a.ckpt b.ckpt --data.labels list_attr_celeba.csv --k 20",
        ),
    ),
    Command(
        "map",
        "Compare spaces",
        "maps from the first model's latent space to the others', judged on held-out images",
        "latent_lab.cli.spaces:map_spaces",
        usage="A.ckpt B.ckpt ... [--OPTION VALUE ...]",
        names="checkpoints",
        options=_SPACES,
        options_from="latent_lab.cli.spaces:mapping",
        sections=("data",),
        details=(
            "Maps are fitted to codes of training images by default, and written beside the result; `reconstruct`, "
            "`sample` and `test` take them (--map FILE --target B.ckpt)."
        ),
        examples=(
            "latent-lab map runs/a/checkpoints/last.ckpt runs/b/checkpoints/last.ckpt",
            "latent-lab map a.ckpt b.ckpt --kind published --domain support --without Wearing_Hat",
            "latent-lab map a.ckpt b.ckpt --kind orthogonal --beside affine --out maps",
        ),
    ),
    Command(
        "map-matrix",
        "Compare spaces",
        "maps between all pairs of several models, beside what no map would give; means over models of one kind",
        "latent_lab.cli.spaces:map_matrix",
        usage="A.ckpt B.ckpt C.ckpt ... [--OPTION VALUE ...]",
        names="checkpoints",
        options=_SPACES,
        options_from="latent_lab.cli.spaces:matrix_of_maps",
        sections=("data",),
        examples=("latent-lab map-matrix runs/*/checkpoints/last.ckpt --out matrix",),
    ),
    Command(
        "similarity",
        "Compare spaces",
        "how alike latent spaces lay out the same images (CKA, CCA, Procrustes, neighbours ...), beside chance",
        "latent_lab.cli.spaces:similarity",
        usage="A.ckpt B.ckpt ... [--OPTION VALUE ...]",
        names="checkpoints",
        options=_SPACES,
        options_from="latent_lab.cli.spaces:similarity_of_spaces",
        sections=("data",),
        details="Of three or more models the space that they have in common is found, and the maps to it are kept.",
        examples=(
            "latent-lab similarity a.ckpt b.ckpt",
            "latent-lab similarity runs/*/checkpoints/last.ckpt --measures cka_debiased,mutual_neighbours,rsa",
        ),
    ),
    Command(
        "directions",
        "Compare spaces",
        "directions of attributes: found in several ways, judged, edited along, carried from the first model over",
        "latent_lab.cli.spaces:directions",
        usage="A.ckpt [B.ckpt ...] [--attributes LABELS] [--OPTION VALUE ...]",
        names="checkpoints",
        options=_SPACES,
        options_from="latent_lab.cli.spaces:directions_of_attributes",
        sections=("data",),
        details="It needs labelled images. Directions are kept as .npy files, which `edit --direction` takes.",
        examples=(
            "latent-lab directions a.ckpt b.ckpt --data.labels labels.csv --attributes Smiling,Male",
            "latent-lab directions a.ckpt b.ckpt --edited svm --regressor faces.safetensors",
            "latent-lab edit --ckpt a.ckpt --direction directions/a_Smiling_svm.npy --attributes Smiling",
        ),
    ),
    Command(
        "sample",
        "Look",
        "draws new images",
        "latent_lab.cli.analysing:sample",
        usage="--ckpt FILE [--out DIR] [--OPTION VALUE ...]",
        options=_LOOK,
        options_from="latent_lab.cli.analysing:sampling",
        sections=("model", "data"),
        examples=("latent-lab sample --ckpt runs/photos/checkpoints/last.ckpt --num 64 --seed 1",),
    ),
    Command(
        "reconstruct",
        "Look",
        "encodes and decodes images, beside the originals",
        "latent_lab.cli.analysing:reconstruct",
        usage="--ckpt FILE [--images PATH] [--out DIR] [--OPTION VALUE ...]",
        options=(*_LOOK, SPLIT, IMAGES),
        options_from="latent_lab.cli.analysing:reconstruction",
        sections=("model", "data"),
        examples=("latent-lab reconstruct --ckpt runs/photos/checkpoints/last.ckpt --images family/",),
    ),
    Command(
        "restore",
        "Look",
        "damages images (missing parts, noise) and reconstructs them",
        "latent_lab.cli.analysing:restore",
        usage="--ckpt FILE [--images PATH] [--out DIR] [--OPTION VALUE ...]",
        options=(*_LOOK, SPLIT, IMAGES),
        options_from="latent_lab.cli.analysing:restoration",
        sections=("model", "data"),
        examples=("latent-lab restore --ckpt runs/photos/checkpoints/last.ckpt --damages square,noise:0.1,noise:0.5",),
    ),
    Command(
        "interpolate",
        "Look",
        "walks between images through the latent space",
        "latent_lab.cli.analysing:interpolate",
        usage="--ckpt FILE [--images PATH] [--out DIR] [--OPTION VALUE ...]",
        options=(*_LOOK, SPLIT, IMAGES),
        options_from="latent_lab.cli.analysing:interpolation",
        sections=("model", "data"),
        examples=(
            "latent-lab interpolate --ckpt runs/photos/checkpoints/last.ckpt --images family/",
            "latent-lab interpolate --ckpt runs/photos/checkpoints/last.ckpt --layout hexagon --seed 3",
            "latent-lab interpolate --ckpt runs/photos/checkpoints/last.ckpt --layout corners --video-frames 96",
        ),
    ),
    Command(
        "mix",
        "Look",
        "mixes images scale by scale: coarse, middle or fine layers of one with the rest of another",
        "latent_lab.cli.analysing:mix",
        usage="--ckpt FILE [--images PATH] [--out DIR] [--OPTION VALUE ...]",
        options=(*_LOOK, SPLIT, IMAGES),
        options_from="latent_lab.cli.analysing:mixing",
        sections=("model", "data"),
        details="Without --images and --split, samples are mixed.",
        examples=(
            "latent-lab mix --ckpt runs/photos/checkpoints/last.ckpt --images family/",
            "latent-lab mix --ckpt last.ckpt --scales 0-1,0-2,2-end --regressor faces.safetensors",
        ),
    ),
    Command(
        "condition",
        "Look",
        "draws images that keep the coarse, middle or fine layers of a given one",
        "latent_lab.cli.analysing:condition",
        usage="--ckpt FILE [--images PATH] [--out DIR] [--OPTION VALUE ...]",
        options=(*_LOOK, SPLIT, IMAGES),
        options_from="latent_lab.cli.analysing:conditioning",
        sections=("model", "data"),
        examples=("latent-lab condition --ckpt runs/photos/checkpoints/last.ckpt --images family/ --kept coarse",),
    ),
    Command(
        "invert",
        "Look",
        "finds latents of images by a learned encoder, by optimisation, and by both",
        "latent_lab.cli.analysing:invert",
        usage="--ckpt FILE [--images PATH] [--recoder FILE] [--out DIR] [--OPTION VALUE ...]",
        options=(
            *_LOOK,
            SPLIT,
            IMAGES,
            Option("recoder", "checkpoint of a recoder of this model, as its learned encoder", "FILE"),
        ),
        options_from="latent_lab.cli.analysing:inversion",
        sections=("model", "data"),
        details="A model that encodes is its own learned encoder; a recoder's checkpoint holds its decoder, too.",
        examples=(
            "latent-lab invert --ckpt runs/gan/checkpoints/last.ckpt --images family/",
            "latent-lab invert --ckpt runs/gan/checkpoints/last.ckpt --recoder runs/recoder/checkpoints/last.ckpt",
        ),
    ),
    Command(
        "edit",
        "Look",
        "adds attributes to images and takes them away, and measures what else changes",
        "latent_lab.cli.analysing:edit",
        usage="--ckpt FILE --attributes LABELS [--images PATH] [--out DIR] [--OPTION VALUE ...]",
        options=(
            *_LOOK,
            SPLIT,
            IMAGES,
            Option("with-dir", "folder of images with an attribute, instead of labels", "DIR"),
            Option("without-dir", "folder of images without it", "DIR"),
        ),
        options_from="latent_lab.cli.analysing:editing",
        sections=("model", "data"),
        details=(
            "Directions come from labelled training images, from two folders, or from a file; strengths are the same "
            "for all images."
        ),
        examples=(
            'latent-lab edit --ckpt last.ckpt --attributes "smiling eyeglasses" --regressor faces.safetensors',
            "latent-lab edit --ckpt last.ckpt --with-dir smiling/ --without-dir serious/ --images family/",
            "latent-lab edit --ckpt last.ckpt --direction smile.safetensors --layers middle --strengths 0.5,1",
        ),
    ),
    Command(
        "view-synthesis",
        "Look",
        "predicts the frames of a camera's run from a few of them and the camera's poses, and measures how well",
        "latent_lab.cli.analysing:view_synthesis",
        usage="--ckpt FILE --frames DIR --poses FILE|--data NAME [--out DIR] [--OPTION VALUE ...]",
        options=(
            *_LOOK,
            SPLIT,
            Option("frames", "folder with the images of a run", "DIR"),
            Option("poses", "the camera's poses: ARKit, transforms.json, COLMAP, NPY, or a CSV table", "FILE"),
            Option("poses-direction", "of a file that does not say it: camera_to_world or world_to_camera", "NAME"),
            Option("poses-axes", "of the camera, in a file that does not say it: opengl or opencv", "NAME"),
        ),
        options_from="latent_lab.cli.analysing:view_synthesis_options",
        sections=("model", "data"),
        details=(
            "Latents of frames that are not observed come from a Gaussian process over poses, and are compared with "
            "straight lines. Writes a figure with the uncertainty of pixels, and a video."
        ),
        examples=(
            "latent-lab view-synthesis --ckpt last.ckpt --frames run/ --poses run/frames.csv",
            "latent-lab view-synthesis --ckpt last.ckpt --data SyntheticCameraRun --data.motion standstill",
            "latent-lab view-synthesis --ckpt last.ckpt --data SyntheticCameraRun --observed all --kernels view,euler",
        ),
    ),
    Command(
        "explore",
        "Look",
        "a page in the browser to try models by hand: sample, reconstruct, mix, move, interpolate, side by side",
        "latent_lab.cli.exploring:explore",
        usage="A.ckpt [B.ckpt ...] [--OPTION VALUE ...]",
        names="checkpoints",
        options=(
            CHECKPOINT,
            Option("space", "of a StyleGAN: w (default; with --map z) or z", "NAME"),
            Option("truncation", "of a StyleGAN: share of the deviation from the mean of W that is kept", "PSI"),
            Option("direction", "of an attribute of the first model, or MODEL=FILE; repeatable", "FILE", repeated=True),
            Option("map", "file of `latent-lab map`, from the first model to the second (default: fits one)", "FILE"),
            ACCELERATOR,
        ),
        options_from="latent_lab.cli.exploring:explore_options",
        details=(
            "Needs the extra explore: pip install 'latent-lab[explore]'. The page is for this machine alone "
            "(127.0.0.1) and asks nothing of the network; docs/explore.md explains it."
        ),
        examples=(
            "latent-lab explore automodulator_faces32 stylegan_faces32",
            "latent-lab explore last.ckpt --direction directions/last_Smiling_svm.npy",
        ),
    ),
    Command(
        "predict",
        "Look",
        "writes the code and the reconstruction of every image",
        "latent_lab.cli.predicting:predict",
        usage="--ckpt FILE --out DIR [--images PATH]",
        options=(
            CHECKPOINT,
            OUT,
            *_MAP,
            DEVICES,
            ACCELERATOR,
            SPLIT,
            IMAGES,
            Option("no-pictures", "write codes only"),
        ),
        sections=("model", "data"),
        details=(
            "codes.safetensors holds `index` and `latents`, those of --ckpt also where --map is given; reconstructions "
            "are numbered by index."
        ),
        examples=("latent-lab predict --ckpt runs/photos/checkpoints/last.ckpt --images family/ --out codes",),
    ),
    Command(
        "prepare",
        "Data and files",
        "checks and packs a folder of images once, with a report of odd files",
        "latent_lab.cli.packing:prepare",
        usage="SOURCE --out DIR [--OPTION VALUE ...]",
        options=(OUT,),
        options_from="latent_lab.cli.packing:packing_function",
        details="`latent-lab help ImageFolder` explains the options. Give DIR as --data.root afterwards.",
        examples=("latent-lab prepare photos --out data/photos --resolution 128",),
    ),
    Command(
        "statistics",
        "Data and files",
        "mean and covariance of the features of images, in a file that distances can be measured against",
        "latent_lab.cli.referencing:statistics",
        usage="--images PATH|--ckpt FILE --out FILE.npz [--OPTION VALUE ...]",
        options=(
            CHECKPOINT,
            Option("images", "images to be seen: a folder", "PATH"),
            Option("resolution", "pixels per side at which a folder is read (default: that of its images)", "N"),
            Option("split", "which images of a checkpoint's data: train (default), val or test", "NAME"),
            Option("out", "file to write", "FILE.npz"),
            DEVICES,
            ACCELERATOR,
        ),
        options_from="latent_lab.cli.referencing:statistics_options",
        sections=("model", "data"),
        details=(
            "The file holds mu and sigma as pytorch-fid, clean-fid and EDM have them, and beside them what they were "
            "made with. A checkpoint's images are seen at the resolution and fade of its model."
        ),
        examples=(
            "latent-lab statistics --images photos --resolution 128 --extractor inception --out photos.npz",
            "latent-lab statistics --ckpt runs/photos/checkpoints/last.ckpt --out photos.npz",
        ),
    ),
    Command(
        "download",
        "Data and files",
        "files of a checkpoint that others publish, to be imported",
        "latent_lab.cli.downloading:download",
        usage="NAME --out DIR",
        options=(Option("out", "folder for the files", "DIR"),),
        details=(
            "`latent-lab checkpoints` lists the names. Digests are checked where they are known. A file that needs a "
            "browser is named with its page."
        ),
        examples=("latent-lab download automodulator_ffhq512 --out published",),
    ),
    Command(
        "import",
        "Data and files",
        "published weights of another program to a checkpoint",
        "latent_lab.cli.importing:import_weights",
        usage="FORMAT FILE --out X.ckpt",
        options=(Option("out", "file to write", "X.ckpt"),),
        options_from="latent_lab.cli.importing:named_format",
        details=(
            "Formats: pioneer, balanced_pioneer, automodulator (checkpoints of these programs), attribute_delta (their "
            "directions of attributes; writes .safetensors), age_modules (pickled encoder and generator), "
            "split_vae_keras (HDF5), gamma_vae_tensors and gan_tensors (.npz, arrays in the layers' order, kernel "
            "before bias), stylegan_tf (NVIDIA's pickles), stylegan_arrays (their variables by name), "
            "stylegan_genforce, stylegan_rosinality and stylegan_lernapparat (checkpoints of these programs). What a "
            "file holds and the model does not need is named; nothing in a file is run."
        ),
        examples=(
            "latent-lab import balanced_pioneer 25480000_state --out balanced_pioneer.ckpt",
            "latent-lab import automodulator 42420000_state.pth --out ffhq512.ckpt",
            "latent-lab import attribute_delta smile_delta --out smile.safetensors",
            "latent-lab import split_vae_keras celeba_split_one.hdf5 --out split_vae.ckpt",
            "latent-lab import stylegan_tf karras2019stylegan-ffhq-1024x1024.pkl --out stylegan_ffhq1024.ckpt",
        ),
    ),
    Command(
        "export",
        "Data and files",
        "what encodes and decodes, as safetensors, or as a small checkpoint to give to others",
        "latent_lab.cli.exporting:export",
        usage="FILE --out X.safetensors|X.ckpt",
        names="checkpoints",
        options=(
            Option("out", "file to write, .safetensors or .ckpt", "FILE"),
            Option("half", "round weights to float16: half the size, and numbers that differ in the fourth digit"),
        ),
        details=(
            "The recipes of model and data are in the file. A checkpoint (.ckpt) serves every command but "
            "`fit --resume`: it has no state of training, no weights that only training needs (of discriminators, of "
            "networks that have an average), and no folder names of this machine."
        ),
        examples=(
            "latent-lab export runs/photos/checkpoints/last.ckpt --out photos.safetensors",
            "latent-lab export runs/photos/checkpoints/last.ckpt --out photos.ckpt",
            "latent-lab export runs/photos/checkpoints/last.ckpt --out photos_small.ckpt --half",
        ),
    ),
    Command(
        "weights",
        "Data and files",
        "weights of the networks that measure: which are known, where they are; collects them in one folder",
        "latent_lab.cli.weights:weights",
        usage="list | pack SOURCE ... --out DIR",
        options=(Option("out", "folder to collect weights in", "DIR"),),
        details=(
            "`list` names each file, what it is for, its licence and digest, and where it is or how to get it. `pack` "
            "copies those that it finds in files or folders, if their sha256 is the published one; "
            "LATENT_LAB_WEIGHTS=DIR makes every command find them."
        ),
        examples=("latent-lab weights list", "latent-lab weights pack ~/Downloads ~/.cache/torch --out weights"),
    ),
    Command("models", "What there is", "the models", "latent_lab.cli.listing:models"),
    Command("data", "What there is", "the data sets", "latent_lab.cli.listing:data"),
    Command("configs", "What there is", "the shipped configurations", "latent_lab.cli.listing:configs"),
    Command(
        "checkpoints",
        "What there is",
        "checkpoints: the project's own, and published ones",
        "latent_lab.cli.listing:checkpoints",
    ),
    Command(
        "completion",
        "What there is",
        "a script with which bash, zsh or fish completes commands, options and names",
        "latent_lab.cli.completion:completion",
        usage="bash|zsh|fish",
        details="Where to put it: see the examples (bash, zsh, fish). Make it again after an update.",
        examples=(
            "latent-lab completion bash > ~/.local/share/bash-completion/completions/latent-lab",
            "latent-lab completion zsh >> ~/.zshrc",
            "latent-lab completion fish > ~/.config/fish/completions/latent-lab.fish",
        ),
    ),
    Command(
        "help",
        "What there is",
        "every option of a model, data set or analysis, or of the sections run and trainer",
        "latent_lab.cli.listing:explain",
        usage="NAME",
        examples=("latent-lab help Pioneer", "latent-lab help ImageFolder", "latent-lab help run"),
    ),
)
BY_NAME = {command.name: command for command in COMMANDS}
