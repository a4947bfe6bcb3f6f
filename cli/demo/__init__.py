"""The main job, played from a customer's side on real parts, and the check that its bill agrees."""
