"""Validation and test after each few epochs, on data without each user's last interaction.

    python benchmarks/studies/epochs.py amazon-beauty --data-path DATA --loss_type=CE

What validates a model elsewhere tests it here, so that the test of the whole data stays unseen. Early
stopping picks one epoch, by a validation score that goes up and down by chance; this shows all. The data are
not filtered. --key=value is a setting of the run, as in recbole-sce run.
"""

import argparse
import tempfile
from pathlib import Path

from recbole_sce.cli.overrides import parse_overrides
from recbole_sce.utils.arguments import recbole_sees

METRICS = ("ndcg@10", "recall@10", "itemcoverage@10")
SETTINGS = {
    "metrics": ["NDCG", "Recall", "ItemCoverage"],
    "topk": [10],
    "valid_metric": "NDCG@10",
    "epochs": 18,
    "eval_step": 3,
    "stopping_step": 1000,
    "seed": 1,
    "train_neg_sample_args": None,
    "user_inter_num_interval": None,
    "item_inter_num_interval": None,
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "state": "WARNING",
}


def without_last(text: str) -> str:
    """Return an atomic file less the last row of each user; rows are grouped by user, in order of time."""
    header, *rows = text.splitlines()
    users = [row.partition("\t")[0] for row in rows]
    kept = [row for row, user, following in zip(rows, users, [*users[1:], None]) if user == following]
    return "\n".join([header, *kept, ""])


def prepared(dataset: str, folder: str, model: str, settings: dict[str, object]) -> tuple:
    """Return loaders of training, validation and test, and a trainer, made as run_recbole makes them."""
    # RecBole comes after recbole_sce, which repairs it.
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    config = Config(model, dataset, config_dict={**settings, "data_path": folder})
    init_seed(config["seed"], config["reproducibility"])
    loaders = data_preparation(config, create_dataset(config))
    init_seed(config["seed"], config["reproducibility"])
    built = get_model(model)(config, loaders[0]._dataset)
    return (*loaders, get_trainer(config["MODEL_TYPE"], model)(config, built))


def run(dataset: str, folder: str, model: str) -> None:
    train, valid, test, trainer = prepared(dataset, folder, model, {**SETTINGS, "checkpoint_dir": folder})

    def show(epoch: int, validation: float) -> None:
        result = trainer.evaluate(test, load_best_model=False)
        cells = [validation, *(result[name] for name in METRICS)]
        print(f"| {epoch + 1} | " + " | ".join(f"{cell:.4f}" for cell in cells) + " |", flush=True)

    print("| epoch | validation ndcg@10 | " + " | ".join(f"test {name}" for name in METRICS) + " |")
    print("|---:|---:|" + "---:|" * len(METRICS))
    trainer.fit(train, valid, verbose=False, saved=False, callback_fn=show)


def parser_of(purpose: str) -> argparse.ArgumentParser:
    """Return a parser of what a study trains: which model, on which data."""
    parser = argparse.ArgumentParser(description=purpose)
    parser.add_argument("dataset")
    parser.add_argument("--data-path", type=Path, required=True)
    parser.add_argument("--model", default="SASRecSCE")
    return parser


def main() -> None:
    arguments, further = parser_of(__doc__.splitlines()[0]).parse_known_args()
    name = f"{arguments.dataset}.inter"
    text = (arguments.data_path / arguments.dataset / name).read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, recbole_sees(parse_overrides(further)):
        (Path(folder) / arguments.dataset).mkdir()
        (Path(folder) / arguments.dataset / name).write_text(without_last(text), encoding="utf-8")
        run(arguments.dataset, folder, arguments.model)


if __name__ == "__main__":
    main()
