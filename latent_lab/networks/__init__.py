"""Networks: tensors in, tensors out. No losses, no logging, no globals."""
