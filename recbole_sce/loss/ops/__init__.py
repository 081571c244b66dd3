"""Operations that the losses share: memory, logits, kernels."""
