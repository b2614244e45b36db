"""What ops share: the tiles that their programs walk, and the tile configs of convolutions."""
