"""The mask contract and its known answers, as package data."""
