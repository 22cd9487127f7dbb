"""What a latent model is: spaces, interfaces and wrappers over them."""
