"""Validation and test of averages of the weights, with several decays, of one and the same training.

    python benchmarks/studies/averages.py s3rec-yelp --data-path DATA --decays 0.99 0.999

An average has no part in training, so that all are taken beside each other. Cells: validation / test NDCG@10.
--key=value is a setting of the run, as in recbole-sce run.
"""

import tempfile
from contextlib import ExitStack

from epochs import parser_of, prepared

from recbole_sce.cli.overrides import parse_overrides
from recbole_sce.training.callbacks.ema import WeightAverage
from recbole_sce.utils.arguments import recbole_sees

SETTINGS = {
    "metrics": ["NDCG"],
    "topk": [10],
    "valid_metric": "NDCG@10",
    "epochs": 30,
    "eval_step": 3,
    "stopping_step": 1000,
    "seed": 1,
    "train_neg_sample_args": None,
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "state": "WARNING",
    "ema_decay": None,
}


def run(dataset: str, data_path: str, model: str, decays: list[float], folder: str) -> None:
    settings = {**SETTINGS, "checkpoint_dir": folder}
    train, valid, test, trainer = prepared(dataset, data_path, model, settings)
    if trainer.average is not None:
        raise SystemExit("ema_decay has no place here: the decays are those of --decays")
    averages = [WeightAverage(trainer.model.parameters(), decay) for decay in decays]

    def scores() -> str:
        ndcgs = (trainer.evaluate(data, load_best_model=False)["ndcg@10"] for data in (valid, test))
        return " / ".join(f"{score:.4f}" for score in ndcgs)

    def show(epoch: int, _: float) -> None:
        cells = [scores()]
        for average in averages:
            with average.in_place():
                cells.append(scores())
        print(f"| {epoch + 1} | " + " | ".join(cells) + " |", flush=True)

    print("| epoch | last step | " + " | ".join(map(str, decays)) + " |")
    print("|---:|" + "---:|" * (1 + len(decays)))
    with ExitStack() as stack:
        for average in averages:
            stack.enter_context(average.following(trainer.optimizer))
        trainer.fit(train, valid, verbose=False, saved=False, callback_fn=show)


def main() -> None:
    parser = parser_of(__doc__.splitlines()[0])
    parser.add_argument("--decays", type=float, nargs="+", default=[0.99, 0.999])
    arguments, further = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder, recbole_sees(parse_overrides(further)):
        run(arguments.dataset, str(arguments.data_path), arguments.model, arguments.decays, folder)


if __name__ == "__main__":
    main()
