"""Measuring a challenger, the gates, the card, the promotion."""
