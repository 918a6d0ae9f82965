"""Which files make up each data set, where their publishers keep them, and what they must be."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One published file. md5: as its publisher, or who redistributes it, states it; None: stated nowhere.

    url: None for one that must be fetched by hand. into: folder it is unpacked to; None: a plain file.
    """

    name: str
    url: str | None
    md5: str | None = None
    into: str | None = "."


@dataclass(frozen=True)
class DataSet:
    """title: for people. page: where it is described, with its terms of use. by_hand: how to come by its files."""

    title: str
    page: str
    files: tuple[Published, ...]
    by_hand: str = ""


_OMNIGLOT = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python"
_FASHION = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"

DATA_SETS: dict[str, DataSet] = {
    "omniglot": DataSet(
        "Omniglot: 1,623 handwritten characters of 50 alphabets, 20 drawings each",
        "https://github.com/brendenlake/omniglot",
        (
            Published(
                "images_background.zip", f"{_OMNIGLOT}/images_background.zip", "68d2efa1b9178cc56df9314c21c6e718"
            ),
            Published(
                "images_evaluation.zip", f"{_OMNIGLOT}/images_evaluation.zip", "6b91aef0f799c5bb55b94e3f2daec811"
            ),
        ),
    ),
    "fashion-mnist": DataSet(
        "Fashion-MNIST: 70,000 grey pictures of clothes, 10 classes",
        "https://github.com/zalandoresearch/fashion-mnist",
        tuple(
            Published(name, f"{_FASHION}/{name}", md5, None)
            for name, md5 in (
                ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
                ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
                ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
                ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
            )
        ),
    ),
    "cub200": DataSet(
        "CUB-200-2011: 11,788 photographs of 200 bird species",
        "https://www.vision.caltech.edu/datasets/cub_200_2011/",
        (
            Published(
                "CUB_200_2011.tgz",
                "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
                "97eceeb196236b17998738112f37df78",
            ),
        ),
    ),
    "cars196": DataSet(
        "Cars196: 16,185 photographs of 196 car models",
        "https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
        (
            Published("car_ims.tgz", None, "d5c8f0aa497503f355e17dc7886c3f14"),
            Published("cars_annos.mat", None, "b407c6086d669747186bd1d764ff9dbc", None),
        ),
        "its publisher's address no longer answers; get car_ims.tgz and cars_annos.mat from who has a copy",
    ),
    "sop": DataSet(
        "Stanford Online Products: 120,053 photographs of 22,634 products",
        "https://cvgl.stanford.edu/projects/lifted_struct/",
        (
            Published(
                "Stanford_Online_Products.zip",
                "http://ftp.cs.stanford.edu/cs/cvgl/Stanford_Online_Products.zip",
                "7f73d41a2f44250d4779881525aea32e",
            ),
        ),
    ),
    "inshop": DataSet(
        "In-shop Clothes Retrieval (DeepFashion): 52,712 photographs of 7,982 garments",
        "https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html",
        (Published("img.zip", None), Published("list_eval_partition.txt", None, None, None)),
        "its publisher gives img.zip and Eval/list_eval_partition.txt to who agrees to the terms on its page",
    ),
    "caltech101": DataSet(
        "Caltech 101: 8,677 photographs of 101 kinds of objects",
        "https://data.caltech.edu/records/mzrjq-6wc02",
        (
            Published(
                "caltech-101.zip",
                "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
                "3138e1922a9193bfa496528edbbc45d0",
            ),
        ),
    ),
}
