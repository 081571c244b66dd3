"""Tests that one worker runs one after another, as files below this folder."""

#: Tests of several processes that wait for each other, or are killed: one after another.
PROCESSES = (
    "benchmarks/test_kills.py",
    "compat/test_distributed.py",
    "compat/test_launch.py",
    "compat/test_ray_workers.py",
    "device/test_two_gpus.py",
    "experiments/test_process.py",
    "utils/test_memory.py",
    "utils/test_processes.py",
)
#: Tests whose fixtures train, or prepare data, once for all tests of the file.
SHARED_DATA = (
    "evaluator/test_ranking.py",
    "inference/test_recommender.py",
    "model/test_models.py",
    "training/callbacks/test_ema.py",
    "training/test_resume.py",
    "training/test_trainer.py",
)
