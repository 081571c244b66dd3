"""Train a sequential recommender of your own with Scalable Cross-Entropy.

    python examples/custom_model.py [--key=value ...]

The encoder is written as for RecBole alone, and ends in gather_indexes. Two lines more make it an SCE model.
"""

import recbole_sce
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.quick_start import run_recbole
from torch import nn


class LSTM4Rec(SequentialRecommender):
    """An LSTM over item embeddings; its state at the last item predicts the next one."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        size = config["embedding_size"]
        self.item_embedding = nn.Embedding(self.n_items, size, padding_idx=0)
        self.lstm = nn.LSTM(size, size, batch_first=True)

    def forward(self, item_seq, item_seq_len):
        states, _ = self.lstm(self.item_embedding(item_seq))  # (batch, length, size)
        return self.gather_indexes(states, item_seq_len - 1)  # (batch, size)


@recbole_sce.register_model
class LSTM4RecSCE(recbole_sce.SCEMixin, LSTM4Rec):
    causal = True  # no state knows a later item, so that all positions of a sequence train in one pass


if __name__ == "__main__":
    result = run_recbole(
        model="LSTM4RecSCE", dataset="ml-100k", config_dict={"embedding_size": 64, "epochs": 10}
    )
    print(result["test_result"])
