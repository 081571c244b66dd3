"""Operations are counted without a second copy of the parameters."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from types import SimpleNamespace

from recbole.data.transform import construct_transform
from recbole.utils import get_flops

from recbole_sce.training.flops import light_copy


def test_a_light_copy_counts_what_a_deep_one_does_and_leaves_the_model_alone(
    ml_100k: Callable[..., SimpleNamespace],
) -> None:
    made = ml_100k(user_inter_num_interval="[200,inf)")
    given = (made.train.dataset, made.config["device"], logging.getLogger(), construct_transform(made.config))
    state = {name: tensor.clone() for name, tensor in made.model.state_dict().items()}
    expected = get_flops(made.model, *given)
    assert expected > 0
    assert get_flops(light_copy(made.model), *given) == expected
    assert made.model.state_dict().keys() == state.keys()
    assert all((made.model.state_dict()[name] == tensor).all() for name, tensor in state.items())


def test_a_light_copy_shares_parameters_through_further_copies(
    ml_100k: Callable[..., SimpleNamespace],
) -> None:
    model = ml_100k(user_inter_num_interval="[200,inf)").model
    again = copy.deepcopy(light_copy(model))
    assert again is not model
    assert again.item_embedding is not model.item_embedding
    assert again.item_embedding.weight is model.item_embedding.weight
