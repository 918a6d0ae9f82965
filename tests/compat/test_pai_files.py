"""`-Dcmd convert` and `-name ev_predict_ext` in a bucket, before and after a training."""

import json
import re
from pathlib import Path

from compat_cases import Pai
from pai_data import BUCKET, picture, write_records
from pai_pages import COMMANDS, SMALL, appended

from kinsight import storage
from kinsight.models.artefact import load_header


def test_prediction(bucket: Path, tmp_path: Path, pai: Pai) -> None:
    """`-name ev_predict_ext` on the model: an image's address, a comma, JSON of the documented names."""
    write_records(bucket / "data/test/cifar10/all.tfrecord", range(20), several=True)
    more = f"{SMALL} --use_pretrained_model false --train_batch_size 8"
    assert pai("-e", appended(COMMANDS["single-multilabel"], more)).code == 0
    names = [f"oss://{BUCKET}/images/{number}.png" for number in range(3)]
    for number, name in enumerate(names):  # by way of the server, which remembers what is in its folders
        storage.write_bytes(name, picture(number))
    storage.write_text(f"oss://{BUCKET}/list.txt", "\n".join(names) + "\n")
    words = [
        "-name", "ev_predict_ext", f"-Dmodel_path=oss://{BUCKET}/test/cifar_inception_v4",
        f"-Dinput_oss_file=oss://{BUCKET}/list.txt", f"-Doutput_oss_file=oss://{BUCKET}/predicted.txt",
        "-Dimage_type=url", "-Dnum_worker=0", "-DcpuRequired=800", "-DgpuRequired=100",
        "-Dbuckets={bucket_name}.{oss_host}/{path}", "-Darn=acs:ram::1:role/x", "-DossHost={oss_host}",
    ]  # fmt: skip
    done = pai(*words, "-Dmodel_type=classifier")
    assert done.code == 2
    assert "-Dmodel_type: classifier: the model was trained for multilabel" in done.err
    done = pai(*words, "-Dmodel_type=multilabel_classifier")
    assert done.code == 0, done.err
    lines = (bucket / "predicted.txt").read_text().splitlines()
    found = [re.split(r",\s*", line, maxsplit=1) for line in lines]
    assert [address for address, _ in found] == names
    for _, answer in found:
        said = json.loads(answer)
        assert {"class_probs", "classes", "predictions", "class_names", "probs"} <= set(said)
        assert len(said["probs"]) == len(said["predictions"]) == 10
    features = [word.replace("predicted.txt", "features.txt") for word in words]
    done = pai(*features, "-Dmodel_type=feature_extractor", "-Dfeature_name=resnet_v1_50/block4")
    assert done.code == 0, done.err
    assert "-Dfeature_name resnet_v1_50/block4: the embedding is written" in done.err
    first = (bucket / "features.txt").read_text().splitlines()[0]
    assert len(json.loads(first.partition(",")[2])["feature"]) == 1024


def test_a_model_path_without_a_model(bucket: Path, pai: Pai) -> None:
    storage.write_text(f"oss://{BUCKET}/empty/bundle.json", "{}")
    for place, code in ((f"oss://{BUCKET}/nothing", 1), (f"oss://{BUCKET}/empty", 3)):
        done = pai(
            "-name", "ev_predict_ext", f"-Dmodel_path={place}", "-Dmodel_type=classifier", "-Dbuckets=oss://{bucket_name}/",
            f"-Dinput_oss_file=oss://{BUCKET}/list.txt", f"-Doutput_oss_file=oss://{BUCKET}/out.txt", "-Darn=x",
        )  # fmt: skip
        assert done.code == code, done.err
        assert f"-Dmodel_path={place}: " in done.err


def test_conversion_and_training_on_it(bucket: Path, tmp_path: Path, pai: Pai) -> None:
    """The documented conversion of a label file, then a training on its files with its label map."""
    options = (("Passport",), ("ID card",), ("Passport", "ID card"))
    lines = ["id,data,result"]
    for number in range(24):
        name = f"oss://{BUCKET}/photos/{number}.png"
        storage.write_bytes(name, picture(number))
        option = json.dumps({"option": list(options[number % 3])})
        lines.append(f'{number},{{"url": "{name}"}},{option}')
    storage.write_text(f"oss://{BUCKET}/labels.csv", "\n".join(lines) + "\n")
    storage.write_text(f"oss://{BUCKET}/classes.txt", "Passport\nID card\n")
    words = [
        "-name", "easy_vision_ext", "-Dbuckets={bucket_name}.{oss_host}/{path}", "-Darn=acs:ram::1:role/x",
        "-DossHost={oss_host}", "-Dcmd", "convert", f"-Dlabel_file=oss://{BUCKET}/labels.csv",
        f"-Doutput_tfrecord=oss://{BUCKET}/converted/first",
        "-Dcluster={\\\"worker\\\":{\\\"count\\\":1,\\\"cpu\\\":800}}",
        "-Dconvert_param_config", f"--class_list_file oss://{BUCKET}/classes.txt --max_image_size 32 "
        "--write_parallel_num 1 --num_samples_per_tfrecord 8 --test_ratio 0.25 --model_type CLASSIFICATION",
    ]  # fmt: skip
    done = pai(*words)
    assert done.code == 0, done.err
    names = sorted(file.name for file in (bucket / "converted").glob("*.tfrecord"))
    assert [name.rpartition("_")[0] for name in names] == ["first_test", *["first_train"] * 3]
    config = (
        f"--model_type MultiLabelClassification --backbone cifarnet --image_size 32 --num_classes 2 --num_epochs 1 "
        f"--train_data oss://{BUCKET}/converted/first_train_*.tfrecord --train_batch_size 6 --test_batch_size 6 "
        f"--test_data oss://{BUCKET}/converted/first_test_*.tfrecord --use_pretrained_model false "
        f"--train_num_readers 0 --label_map_path oss://{BUCKET}/converted/first_label_map.pbtxt "
        f"--num_train_images 1000 --model_dir oss://{BUCKET}/model"
    )
    done = pai("-name", "easy_vision_ext", "-Dcmd=train", "-DgpuRequired=0", "-Dparam_config", config)
    assert done.code == 0, done.err
    assert "--num_train_images 1,000:" in done.err
    assert "holds 18; an epoch is all of them" in done.err
    assert load_header(str(bucket / "model/bundle")).class_names == ("Passport", "ID card")
