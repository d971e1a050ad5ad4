"""What reward models on vision-language backbones share; the README beside this file says how."""
