"""Reading files and settings that come from elsewhere, without running anything of them."""
