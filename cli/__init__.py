"""The command `hydra`: what operators, customers and analysts type. Talks to services over HTTP; holds no state."""
