from __future__ import annotations

import pytest

from recbole_sce.settings import SCESettings, SettingsError


def test_defaults_hold_where_nothing_is_said() -> None:
    assert SCESettings.from_config({}, causal=True) == SCESettings()


def test_values_are_read_by_their_configuration_keys() -> None:
    settings = SCESettings.from_config(
        {"loss_type": "CE-", "n_buckets": 7, "bucket_alpha": 3, "mix_x": False, "train_positions": "last"},
        causal=True,
    )
    assert settings.loss_type == "CE-"
    assert settings.n_buckets == 7
    assert settings.bucket_alpha == 3
    assert settings.mix_x is False
    assert settings.train_positions == "last"


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("loss_type", "FOO", "SCE, CE, CE-, gBCE, BCE"),
        ("loss_type", ["SCE"], "SCE, CE, CE-, gBCE, BCE"),
        ("train_positions", "middle", "all, last"),
        ("n_buckets", 0, "whole number of at least 1"),
        ("n_buckets", "many", "whole number of at least 1"),
        ("bucket_size_x", -3, "whole number of at least 1"),
        ("bucket_size_y", -256, "whole number of at least 1"),
        ("bucket_size_y", 2.5, "whole number of at least 1"),
        ("bucket_size_y", True, "whole number of at least 1"),
        ("n_outside", 0, "whole number of at least 1"),
        ("n_outside", "many", "whole number of at least 1"),
        ("n_negatives", None, "whole number of at least 1"),
        ("bucket_alpha", 0, "above 0"),
        ("bucket_alpha", float("nan"), "above 0"),
        ("bucket_alpha", "two", "above 0"),
        ("mix_x", "yes", "true or false"),
        ("complete_softmax", 1, "true or false"),
        ("catalog_chunk", 0, "whole number of at least 1"),
        ("n_negatives", 0, "whole number of at least 1"),
        ("gbce_t", 1.5, "from 0 to 1"),
        ("target_discount", 1, "from 0 to less than 1"),
        ("target_discount", -0.1, "from 0 to less than 1"),
        ("target_discount", None, "from 0 to less than 1"),
        ("target_discount", True, "from 0 to less than 1"),
        ("resume", True, "auto, the path of a checkpoint, or null"),
    ],
)
def test_an_impossible_value_is_named_with_its_key_and_what_is_allowed(
    key: str, value: object, allowed: str
) -> None:
    with pytest.raises(SettingsError) as error:
        SCESettings.from_config({key: value}, causal=True)
    message = str(error.value)
    assert message.startswith(f"{key}: {value!r} is not allowed")
    assert allowed in message


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(SettingsError, match=r"n_buckets: -1.*mix_x: 3"):
        SCESettings.from_config({"n_buckets": -1, "mix_x": 3}, causal=True)


def test_a_model_that_sees_later_items_cannot_train_all_positions() -> None:
    with pytest.raises(SettingsError, match=r"train_positions: 'all'.*last"):
        SCESettings.from_config({"train_positions": "all"}, causal=False)
    assert SCESettings.from_config({"train_positions": "last"}, causal=False).train_positions == "last"


@pytest.mark.parametrize(("causal", "expected"), [(True, "all"), (False, "last")])
def test_train_positions_null_is_what_the_model_can_do(causal: bool, expected: str) -> None:
    assert SCESettings.from_config({"train_positions": None}, causal=causal).train_positions == expected


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"loss_type": "gBCE"}, "with loss_type: 'gBCE' 0 is"),
        ({"complete_softmax": False}, "with complete_softmax: False 0 is"),
        ({"train_positions": "last"}, "with train_positions: 'last' 0 is"),
    ],
)
def test_later_targets_need_rows_and_a_softmax_that_scores_them(
    given: dict[str, object], reason: str
) -> None:
    with pytest.raises(SettingsError, match=f"^target_discount: 0.4 is not allowed; {reason}, since"):
        SCESettings.from_config({"target_discount": 0.4, **given}, causal=True)
    SCESettings.from_config({"target_discount": 0.0, **given}, causal=True)
    SCESettings.from_config(
        {"target_discount": None, **given}, causal=True, chosen_by_data=["target_discount"]
    )


def test_later_targets_are_of_causal_models() -> None:
    SCESettings.from_config({"target_discount": 0.4}, causal=True)
    SCESettings.from_config(
        {"target_discount": 0.4, "loss_type": "CE", "complete_softmax": False}, causal=True
    )
    with pytest.raises(SettingsError, match=r"not allowed; with this model 0 is, since"):
        SCESettings.from_config({"target_discount": 0.4}, causal=False)


def test_recboles_negative_sampling_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"train_neg_sample_args.*null"):
        SCESettings.from_config(
            {"train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}}, causal=True
        )
