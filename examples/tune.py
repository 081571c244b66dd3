"""Search hyper-parameters of SASRecSCE with RecBole's own HyperTuning and a shipped search space.

pip install "recbole_sce[hyperopt]"
python examples/tune.py [--epochs=5] [--key=value ...]
"""

from importlib.resources import as_file

import recbole_sce  # noqa: F401  (registers SASRecSCE with RecBole)
from recbole.quick_start import objective_function
from recbole.trainer import HyperTuning
from recbole_sce.utils.properties import properties_folder


def objective(config_dict, config_file_list):
    """One trial: RecBole's own, told which model and data set."""
    settings = {"model": "SASRecSCE", "dataset": "ml-100k", "epochs": 5, "show_progress": False}
    return objective_function({**settings, **config_dict}, config_file_list, saved=False)


def main() -> None:
    with as_file(properties_folder() / "hyper" / "sasrecsce.hyper") as space:
        tuning = HyperTuning(
            objective,
            params_file=str(space),
            algo="random",  # or "exhaustive", "bayes"
            max_evals=4,
            display_file="tuning.html",
        )
    tuning.run()
    tuning.export_result(output_file="tuning.txt")
    print("best parameters:", tuning.best_params)
    print("test result:", tuning.params2result[tuning.params2str(tuning.best_params)]["test_result"])
    print("all trials: tuning.txt, their plot: tuning.html")


if __name__ == "__main__":
    main()
