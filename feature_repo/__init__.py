"""Feast objects of the shipped projects; `feast apply` works in this folder."""
