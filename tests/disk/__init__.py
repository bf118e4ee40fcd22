"""Files of every version of the disk format, and the program that writes those of the newest."""
