"""The ground floor: what every part may use, and what uses no part."""
