"""Every flag of run_dcnet.py with its default, as its page has them; where the page contradicts itself, its table's."""

from kinsight.compat.flags import Flag

PARAM_LIST = [256, 512, 1024, 2048, 8192, 16384]
NPROBES = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 16, 20, 32]

RUN_DCNET = [
    Flag("save_path", str, None, "folder for the model, weights, log and tables; must be given"),
    Flag("data_path", str, None, "folder of all data; must be given"),
    Flag("data_name", str, None, "its folder with base.npy, query.npy and gt.npy; must be given"),
    Flag("learn_name", str, None, "its file to learn from, without .npy; must be given for a training"),
    Flag("warmup", int, 3, "epochs in which the rate rises"),
    Flag("epochs", int, 20, "passes over the learn vectors' sample"),
    Flag("metric", str, "IP", "IP (all vectors are brought to unit length) or L2"),
    Flag("batch_size", int, 2048, "vectors of a training step"),
    Flag("valid_batch_size", int, 10000, "queries of a pass"),
    Flag("start_epoch", int, 0, "go on from the weights kept after this epoch"),
    Flag("lr", float, 0.0005, "highest learning rate"),
    Flag("use_amp", bool, False, "mixed precision"),
    Flag("apex_mode", str, "O2", "O1 or O2: on a GPU both compute in fp16 with float32 weights"),
    Flag("scale", float, 1024.0, "loss scale to begin with, of mixed precision on a GPU"),
    Flag("ftopk", int, 10, "nearest neighbours that make up a soft target"),
    Flag("param_list", int, PARAM_LIST, "widths of the network: dimensions first, number of lists last", many=True),
    Flag("use_drop", bool, False, "leave out a share of each layer in training"),
    Flag("drop_prop", float, 0.05, "that share"),
    Flag("nlist", int, 16384, "number of lists; when not given, the last of param_list"),
    Flag("niter", int, 128, "rounds of k-means"),
    Flag("nprobes", int, NPROBES, "numbers of lists to measure at", many=True),
    Flag("percents", float, None, "copies per base vector to measure at, on average; must be given", many=True),
    Flag("gpu", int, 0, "number of the GPU; -1: the CPU; without a GPU, a warning and the CPU"),
    Flag("seed", int, 1, "seed of samples, centres, weights and order"),
    Flag("log_interval", int, 500, "steps between lines of the training"),
    Flag("eval", bool, False, "do not train: measure --ai_center on --data_name"),
    Flag("ai_center", str, None, "with --eval True: an ivfast.npy that a training wrote"),
]
