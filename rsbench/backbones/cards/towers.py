"""Cards of the backbones made of two towers of other packages. Nothing heavy is imported here."""

from __future__ import annotations

from rsbench.backbones.card import FOLDER, PATH, BackboneCard, HubFile

_STATES = frozenset({"tokens", "hidden"})

SWIN, BERT, RESNET = "swin_tiny_patch4_window7_224.ms_in1k", "google-bert/bert-base-uncased", "resnet18.tv_in1k"
SWIN_FILE = HubFile(f"timm/{SWIN}", ("model.safetensors",))
BERT_FILE, WORD_PIECES = HubFile(BERT, ("model.safetensors",)), HubFile(BERT, ("tokenizer.json", "vocab.txt"))
RESNET_FILE = HubFile(f"timm/{RESNET}", ("model.safetensors",))

SWIN_BERT = BackboneCard(
    name="swin-bert",
    title="Swin-T (ImageNet) and BERT-base, as in PIR and PMPGuard",
    target="rsbench.backbones.swin_bert_tuning:build",
    capabilities={"full": _STATES, "lora": _STATES, "heads": _STATES},
    weights=("hub", "random", FOLDER),
    params={
        "dim": 512,
        "words": 47,
        "look": "imagenet",
        "attend_padding": False,
        "hidden": 512,
        "dropout": 0.1,
        "pca": 0,
        "rank": 8,
        "alpha": 8.0,
        "targets": "q+v",
    },
    source=f"jaychempan/PIR; weights timm/{SWIN} and {BERT}",
    hub=(SWIN_FILE, BERT_FILE, WORD_PIECES),
)

RESNET_GRU = BackboneCard(
    name="resnet-gru",
    title="ResNet-18 (ImageNet) at 256 px and a GRU over word vectors, after the AMFMN family",
    target="rsbench.backbones.resnet_gru:ResNetGru",
    capabilities={"full": _STATES},
    weights=("hub", "random", PATH),
    params={
        "dim": 512,
        "hidden": 1024,
        "width": 300,
        "words": 47,
        "vocabulary": 10_000,
        "dropout": 0.25,
        "pool": "mean",
        "glove": "",
    },
    source=(
        f"xiaoyuan1996/AMFMN, jaychempan/SWAN-pytorch; weights timm/{RESNET}. The 2400-unit skip-thoughts GRU of "
        "AMFMN, GaLR, HVSA and KAMCL is not reproduced: numbers differ from theirs"
    ),
    hub=(RESNET_FILE,),
)

REGIONS = BackboneCard(
    name="regions",
    title="36 x 2048 region features and a GRU in both directions, as in SCAN and SGRAF",
    target="rsbench.backbones.regions:RegionsGru",
    capabilities={"full": _STATES},
    weights=("random",),
    params={
        "dim": 1024,
        "features": 2048,
        "width": 300,
        "words": 64,
        "vocabulary": 12_000,
        "dropout": 0.4,
        "pool": "mean",
        "glove": "",
        "words_file": "",
    },
    source="kuanghuei/SCAN, Paranioar/SGRAF",
)
