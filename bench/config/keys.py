"""The keys of one run, as they are typed."""

from dataclasses import dataclass

from bench.config.environment import THREADS_MAX
from bench.config.examined import BN_IMAGES, EXAMINATIONS, EXAMINE_IMAGES, FLOW_IMAGES, STATISTICS
from bench.config.grammar import key
from kernels.dtypes import PRECISIONS
from resnet.architecture import FAMILIES, KERNELS, SHORTCUTS, STRIDES
from resnet.data import DATA_VARIABLE, DATASETS, PROTOCOLS
from resnet.recipe import names as recipe_names

DEFAULT_DATASET = DATASETS["imagenet"]


def _image_sizes() -> str:
    """Sizes by dataset, such as "32 (digits, cifar10), 224": the default dataset's last and alone."""
    others: dict[int, list[str]] = {}
    for dataset in DATASETS.values():
        if dataset.image_size != DEFAULT_DATASET.image_size:
            others.setdefault(dataset.image_size, []).append(dataset.name)
    sizes = [f"{size} ({', '.join(names)})" for size, names in others.items()]
    return ", ".join([*sizes, str(DEFAULT_DATASET.image_size)])


@dataclass(kw_only=True)
class RunKeys:
    """What a run can be given; None where a key was not typed."""

    depth: int | None = key(
        "18, 34, 50, 101, 152 (imagenet family); 6n+2 from 8 on (cifar, one-layer)",
        "required",
        unit="layers",
        least=8,
        most=12_002,
    )
    shortcut: str | None = key(
        "none: plain net; A: zero-padded identity; B: projection where dimensions change; C: projections everywhere",
        "A (cifar, one-layer), B (imagenet)",
        choices=SHORTCUTS,
    )
    stride: str | None = key(
        "where a bottleneck halves the image: v1 in its first 1x1 (the paper), v1.5 in its 3x3", "v1", choices=STRIDES
    )
    family: str | None = key(
        "of networks: the paper's two, or one-layer, which is cifar with a shortcut around every layer",
        "the dataset's",
        choices=FAMILIES,
    )
    dataset: str | None = key(
        "digits come with scikit-learn; imagefolder is any PATH/train/CLASS/*, PATH/val/CLASS/*",
        DEFAULT_DATASET.name,
        choices=tuple(DATASETS),
    )
    data: str | None = key(
        "folder of the dataset, or an archive of it", f"site profile, else what ${DATA_VARIABLE} has", path=True
    )
    image_size: int | None = key("side of the images that the network sees", _image_sizes(), unit="pixels", least=8)
    num_classes: int | None = key("outputs of the network", "the dataset's", unit="classes", least=2)
    recipe: str | None = key(
        "how to train: as the paper did, or as is fast today", "fast", choices=tuple(recipe_names())
    )
    epochs: int | None = key(
        "passes over the training images", "the recipe's; 1 on synthetic images", unit="epochs", least=1
    )
    steps: int | None = key("optimizer steps to stop after, if that comes first", "no limit", unit="steps", least=1)
    lr: float | None = key(
        "peak learning rate, used as given", "the recipe's; in fast, linear in the global batch", above=0
    )
    weight_decay: float | None = key("L2 penalty", "the recipe's", least=0)
    target: float | None = key(
        "top-1 accuracy that time-to-accuracy is measured to", "the recipe's", unit="fraction", above=0, most=1
    )
    batch: int | None = key(
        "images a device in one micro-batch", "the recipe's; paper splits its global batch", unit="images", least=1
    )
    grad_accum: int | None = key("micro-batches in an optimizer step", "1", unit="micro-batches", least=1)
    zero_stage: int | None = key(
        "what DeepSpeed's ZeRO parts over ranks: 0 nothing, 1 optimizer states, 2 gradients too", "0", least=0, most=2
    )
    engine: str | None = key("what reduces gradients and takes the step", "deepspeed", choices=("deepspeed", "ddp"))
    loader: str | None = key(
        "what reads the images; synthetic makes them up and measures compute alone",
        "dali",
        choices=("dali", "torch", "synthetic"),
    )
    loader_threads: int | None = key(
        "CPU threads (dali) or worker processes (torch; 0 reads in the rank's own) of one rank's loader; dali starts "
        "no more than one an image of the batch",
        "the rank's cores, at most one an image of the batch",
        unit="threads",
        least=0,
        most=THREADS_MAX,
    )
    kernels: str | None = key(
        "what computes a layer: plain torch, torch.compile, the suite's fused kernels (triton), or for each layer the "
        "faster of torch and those, measured before the run",
        "auto on GPUs, else torch; torch with activation_checkpointing",
        choices=KERNELS,
    )
    activation_checkpointing: bool | None = key(
        "whether blocks keep their input alone, and compute the rest again in the backward pass: less memory, more "
        "time, the same numbers; of kernels=torch",
        "false",
    )
    precision: str | None = key(
        "of activations; master weights, BN and the reduction of gradients stay fp32",
        "bf16",
        choices=tuple(PRECISIONS),
    )
    seed: int | None = key("of initialization, sample order and augmentation", "0", least=0, most=2**31 - 1)
    nodes: int | None = key("machines", "1", unit="nodes", least=1)
    ranks_per_node: int | None = key(
        "processes on each machine, one a GPU", "its GPUs; 2 without any", unit="ranks", least=1
    )
    protocol: str | None = key(
        "by which test protocols the trained net is also evaluated, in one pass at the end of the run: rows of the "
        "table evaluations",
        "none beside its own, after each epoch",
        choices=PROTOCOLS,
        together=True,
    )
    bn: str | None = key(
        "with which statistics of batch normalization that is done: the momentum average of training, or averages over "
        "bn_images",
        "running",
        choices=STATISTICS,
        together=True,
    )
    bn_images: int | None = key(
        "training images for bn=exact, spread evenly", f"{BN_IMAGES}, or all there are", unit="images", least=2
    )
    examine: str | None = key(
        "what else is found out about the net, rows of the table lesions: responses of its layers (Figure 7), what it "
        "loses without blocks (lesions), norms of activations and gradients before training and after each epoch "
        "(gradient-flow)",
        "nothing",
        choices=EXAMINATIONS,
        together=True,
    )
    examine_images: int | None = key(
        "for examine: test images, spread evenly; training images for gradient-flow",
        f"{EXAMINE_IMAGES:,}, or all there are; at most {FLOW_IMAGES} for gradient-flow",
        unit="images",
        least=2,
    )
    results: str | None = key("folder that rows are written to", "results/v1 of the checkout", path=True)
    save: str | None = key(
        "weights to write after each epoch, as .safetensors; its checkpoints lie beside it", "not written", path=True
    )
    resume: str | None = key(
        "weights, written by save=, to go on from: everything else as in that run", "from scratch", path=True
    )
