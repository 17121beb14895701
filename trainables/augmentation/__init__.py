"""Augmentation of training regions, repeatable from a seed."""
